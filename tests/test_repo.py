"""The rules of the tree: layers, imports, catalog, documents, statements."""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
import sys
import threading
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_plugins import catalog
from tests.kit.imports import CALL, HEAVY, packages

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PLUGIN_FOLDERS = {module.split(".")[0] for module in catalog.PLUGINS.values()}
OURS = {"cni_plugins", "cnictl", "dhcp_daemon", "forkserver", *PLUGIN_FOLDERS}
LONGEST = 400
EXCEPTIONS_SHARE = 0.05


def sources(*folders: str) -> list[Path]:
    """The Python files of some folders."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """A file's module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """A parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path: Path) -> set[str]:
    """The modules a file imports anywhere, also for types only."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {
                f"{module}.{alias.name}" if is_module(f"{module}.{alias.name}") else module
                for alias in node.names
            }
    return found


def is_module(name: str) -> bool:
    """Whether a dotted name is one of our modules."""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


# --- layers -------------------------------------------------------------------------------------

BASE = {
    f"cni_plugins.{name}"
    for name in (
        "background",
        "errors",
        "frozen",
        "jsontext",
        "scopes",
        "undo",
        "deadline",
        "witness",
    )
}
BELOW = {
    "cni_plugins.background": set(),
    "cni_plugins.errors": set(),
    "cni_plugins.frozen": set(),
    "cni_plugins.jsontext": set(),
    "cni_plugins.scopes": set(),
    "cni_plugins.witness": {"cni_plugins.frozen"},
    "cni_plugins.build_info": set(),
    "cni_plugins.undo": {"cni_plugins.errors"},
    "cni_plugins.deadline": {"cni_plugins.errors"},
}
PACKING = {"netlink", "messages"}
AMONG_ADAPTERS = {
    "messages": {"netlink"},
    "snapshots": PACKING,
    "rtnl": {"netlink"},
    "link_requests": {"netns", "rtnl", "snapshots", *PACKING},
    "links": {"netns", "link_requests", "rtnl", "snapshots", *PACKING},
    "tc": {"files", "links", "rtnl", "snapshots", *PACKING},
    "port_vlans": {"rtnl", "snapshots", *PACKING},
    "conntrack": {"rtnl"},
    "nftables": {"command"},
    "iptables": {"command"},
    "firewalld": {"command"},
    "journal": {"store"},
    "store": {"files"},
    "sysctl": {"files"},
    "devices": {"links", "netns", "snapshots", *PACKING},
    "packets": {"netns", "rtnl"},
    "routing": {"links", "rtnl", "snapshots", *PACKING},
    "sublinks": {"links", "netns", "snapshots", *PACKING},
    "tap": {"rtnl"},
}
"""What adapters may import of each other."""


EDGES = {
    ("cni_plugins.main", "cnictl.cli"),
    ("cni_plugins.main", "dhcp_daemon.cli"),
}
"""Where the one executable leads elsewhere than to a plugin."""


def may_import(importer: str, imported: str) -> bool:
    """The table of docs/design.md, "Layers"."""
    package, _, rest = importer.partition(".")
    if imported == "cni_plugins":  # the package itself is a docstring
        return True
    if package != "cni_plugins":
        return package in {"cnictl", "dhcp_daemon", "forkserver"} or imported.split(
            ".", maxsplit=1
        )[0] in {
            "cni_plugins",
            package,
        }
    if importer in BELOW:
        return imported in BELOW[importer]
    if rest.startswith("protocol"):
        return imported in BASE or imported.startswith("cni_plugins.protocol")
    if rest.startswith("host."):
        friends = AMONG_ADAPTERS.get(rest.removeprefix("host."), set())
        is_below = imported in BASE or imported.startswith("cni_plugins.protocol")
        return is_below or imported in {f"cni_plugins.host.{friend}" for friend in friends}
    return imported.split(".", maxsplit=1)[0] == "cni_plugins" or (importer, imported) in EDGES


@pytest.mark.parametrize("path", sources("cni_plugins", *PLUGIN_FOLDERS), ids=module_of)
def test_a_module_imports_only_what_is_below_it(path):
    importer = module_of(path)
    ours = {name for name in imports_of(path) if name.split(".")[0] in OURS}
    assert [name for name in sorted(ours) if not may_import(importer, name)] == []


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("pyroute2", {"cni_plugins.host.conntrack"}),
        ("subprocess", set()),
        ("selectors", set()),
        ("ctypes", {"cni_plugins.host.netns"}),
        ("netaddr", set()),
        ("msgspec", set()),
        ("asyncio", set()),
        ("logging", set()),
    ],
)
def test_a_library_has_one_importer(library, homes):
    found = {
        module_of(path)
        for path in sources("cni_plugins", *PLUGIN_FOLDERS)
        if any(name.split(".")[0] == library for name in imports_of(path))
    }
    assert found == homes


def dotted(node: ast.AST) -> str:
    """``os.environ`` of the expression os.environ; "" for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def uses(path: Path) -> Iterator[str]:
    """What a file uses of the process: names of modules' members, and builtins that are called."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute):
            yield dotted(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield f"{node.func.id}()"


EDGE = {"cni_plugins.main", "cni_plugins.__main__", *(f"{p}.__main__" for p in PLUGIN_FOLDERS)}
OPENERS = {"cni_plugins.liveness", "cni_plugins.delegate"}
"""They look at /proc, and at executables; everything else on the node is an adapter's."""


@pytest.mark.parametrize("path", sources("cni_plugins", *PLUGIN_FOLDERS), ids=module_of)
def test_the_process_is_touched_at_its_edge_only(path):
    """No environment, streams, printing or exiting below main, no files but in adapters."""
    module = module_of(path)
    forbidden = {"print()", "input()", "exit()", "quit()", "exec()", "eval()", "breakpoint()"}
    if module not in EDGE:
        forbidden |= {"os.environ", "os.getenv", "os.putenv", "os._exit"}
        forbidden |= {f"sys.{name}" for name in ("exit", "argv", "stdin", "stdout", "stderr")}
    if not module.startswith("cni_plugins.host.") and module not in OPENERS:
        forbidden |= {"open()", "io.open", "os.open", "os.system", "os.fork", "os.unlink"}
        forbidden |= {"os.mkdir", "os.makedirs", "os.rename", "os.link", "os.listdir", "os.chdir"}
    assert sorted(set(uses(path)) & forbidden) == []


# --- what an import costs -----------------------------------------------------------------------


def call(tmp_path: Path, plugin: str, stdin: bytes, **env: str) -> tuple[int, str, set[str]]:
    """A call in a fresh interpreter: exit status, stdout, and the packages that were loaded."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", CALL, plugin, f"{tmp_path}/modules"],
        input=stdin,
        capture_output=True,
        env={"PYTHONPATH": ":".join([str(ROOT), *(p for p in sys.path if "packages" in p)]), **env},
        cwd="/",
        timeout=30,
        check=False,
    )
    loaded = (tmp_path / "modules").read_text()
    return done.returncode, done.stdout.decode(), packages(loaded)


ATTACHMENT = {
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/nonexistent",
    "CNI_PATH": "/nonexistent",
}


JSON_ERROR = {"json", "re", "enum", "functools", "collections", "contextlib"}
"""What comes with json's error, that tells where it is."""


@pytest.mark.parametrize("plugin", catalog.PLUGINS)
@pytest.mark.parametrize(
    ("stdin", "env", "status"),
    [
        (b"", {"CNI_COMMAND": "VERSION"}, 0),
        (b"", {}, 0),
        (b"", {"CNI_COMMAND": "ADD"}, 1),
        (b"{", {"CNI_COMMAND": "ADD", **ATTACHMENT}, 1),
        (b'{"name":"%"}', {"CNI_COMMAND": "DEL", **ATTACHMENT}, 1),
    ],
    ids=["VERSION", "by hand", "environment", "JSON", "name"],
)
def test_cheap_answers_load_nothing_heavy(tmp_path, plugin, stdin, env, status):
    found, _, loaded = call(tmp_path, plugin, stdin, **env)
    assert found == status
    costly = HEAVY | {"ctypes"} | OURS - {"cni_plugins"}
    if stdin == b"{":
        costly -= JSON_ERROR
    assert sorted(loaded & costly) == []


def test_host_local_loads_nothing_heavy(tmp_path):
    conf = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "host-local",
        "ipam": {
            "type": "host-local",
            "dataDir": f"{tmp_path}/leases",
            "ranges": [[{"subnet": "10.1.2.0/24"}]],
        },
    }
    for command in ("STATUS", "ADD", "CHECK", "DEL", "GC"):
        stdin = json.dumps(conf | {"cni.dev/valid-attachments": []}).encode()
        status, stdout, loaded = call(
            tmp_path, "host-local", stdin, **{**ATTACHMENT, "CNI_COMMAND": command}
        )
        assert status == 0, stdout
        assert sorted(loaded & HEAVY) == []


SUBNET_ENV = """FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.2.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""


def answering(tmp_path: Path) -> str:
    """The socket of a daemon that answers one question."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/sock")
    listener.listen()

    def answer() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b'{"leases": 0}\n')

    threading.Thread(target=answer, daemon=True).start()
    return f"{tmp_path}/sock"


@pytest.mark.parametrize("plugin", catalog.PLUGINS)
def test_status_loads_nothing_heavy(tmp_path, plugin):
    """It is polled every few seconds."""
    (tmp_path / "subnet.env").write_text(SUBNET_ENV)
    pool = {"dataDir": f"{tmp_path}/leases", "ranges": [[{"subnet": "10.1.2.0/24"}]]}
    required = {
        "flannel": {"subnetFile": f"{tmp_path}/subnet.env", "delegate": {"type": "loopback"}},
        "host-local": {"ipam": {"type": plugin, **pool}},
        "static": {"ipam": {"type": plugin}},
        "vlan": {"master": "eth0"},
        "vrf": {"vrfname": "blue"},
    }
    if plugin == "dhcp":
        required["dhcp"] = {"ipam": {"daemonSocketPath": answering(tmp_path)}}
    conf = {"cniVersion": "1.1.0", "name": "net", "type": plugin, **required.get(plugin, {})}
    for executed in ("loopback", "iptables-save", "iptables-restore"):
        (tmp_path / executed).write_text("#!/bin/sh\n")
        (tmp_path / executed).chmod(0o755)
    env = {"CNI_COMMAND": "STATUS", "CNI_PATH": str(tmp_path), "PATH": str(tmp_path)}
    status, stdout, loaded = call(tmp_path, plugin, json.dumps(conf).encode(), **env)
    assert (status, stdout) == (0, "")
    assert sorted(loaded & HEAVY) == []


IMPORT_ALL = """
import sys
from importlib import import_module

found = []

def watch(event, args):
    if event == "open" and isinstance(args[0], str):
        if not args[0].endswith((".py", ".pyc", ".so", ".dist-info", ".pth", ".cfg")):
            found.append((event, args[0]))
    elif event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.system", "os.spawn",
                           "os.putenv", "signal.", "os.mkdir", "os.remove", "os.rename")):
        found.append((event, str(args)))

import ctypes.util, selectors, socket, subprocess, traceback  # theirs, not ours
import pyroute2.iproute.linux  # reads the scheduler's clock
sys.addaudithook(watch)
for name in sys.argv[1:]:
    import_module(name)
for event, what in found:
    print(event, what)
"""


def test_importing_does_nothing():
    """No file is opened but the modules' own, no socket, no process, no directory."""
    modules = [
        module_of(path)
        for path in sources("cni_plugins", *PLUGIN_FOLDERS)
        if path.name != "__main__.py"
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *modules],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- catalog, folders, documents ----------------------------------------------------------------


@pytest.mark.parametrize("plugin", catalog.PLUGINS)
def test_a_plugin_is_complete(plugin):
    """A folder with its usual modules, its page, and its place in the package and the lint run."""
    folder, _, module = catalog.PLUGINS[plugin].partition(".")
    assert module == "plugin"
    for name in ("__init__.py", "__main__.py", "plugin.py", "conf.py"):
        assert (ROOT / folder / name).is_file(), f"{folder}/{name}"
    assert f'main("{plugin}")' in (ROOT / folder / "__main__.py").read_text(encoding="utf-8")
    page = ROOT / "docs" / "plugins" / f"{plugin}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {plugin}\n")
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"{folder}*" in packaging["tool"]["setuptools"]["packages"]["find"]["include"]
    assert folder in makefile_sources()
    find = catalog.find(plugin)
    assert find is not None
    assert find.load().parse is not None


def makefile_sources() -> list[str]:
    """What ruff and mypy look at."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^SOURCES := (.*)$", makefile, re.MULTILINE)
    assert found is not None
    return found[1].split()


def test_there_is_no_plugin_the_catalog_does_not_know():
    folders = {path.parent.name for path in ROOT.glob("*/plugin.py")} - {"cni_plugins"}
    pages = {path.stem for path in (ROOT / "docs" / "plugins").glob("*.md")}
    assert folders == PLUGIN_FOLDERS
    assert pages == set(catalog.PLUGINS)


def test_the_library_knows_no_plugin_by_name():
    """But for the catalog's table."""
    for path in sources("cni_plugins"):
        if module_of(path) == "cni_plugins.catalog":
            continue
        assert {name.split(".")[0] for name in imports_of(path)} & PLUGIN_FOLDERS == set()


def test_no_source_file_is_long():
    roots = [folder for folder in makefile_sources() if folder != "tests"]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(*roots)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= LONGEST
    }
    assert long == {}


def test_the_readme_names_every_make_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):(?!=).*##", makefile, re.MULTILINE)
    assert targets
    assert [target for target in targets if f"make {target}" not in readme] == []


def test_tests_are_run_together_with_the_linters():
    """ruff and mypy are targets of their own, which these two depend on."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("test", "check"):
        rule = re.search(rf"^{target}:([^#]*)", makefile, re.MULTILINE)
        assert rule is not None
        assert "lint" in rule[1].split()


# --- statements ---------------------------------------------------------------------------------


def listed(name: str) -> dict[str, str]:
    """The statements of a file: id and text."""
    found: dict[str, str] = {}
    for line in (ROOT / "tests" / "statements" / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            id_, _, text = line.partition(" ")
            assert text.strip(), f"{name}: {id_} says nothing"
            assert id_ not in found, f"{name}: {id_} is there twice"
            found[id_] = text.strip()
    return found


def statement_files() -> list[str]:
    """The lists by area."""
    names = {path.name for path in (ROOT / "tests" / "statements").glob("*.txt")}
    return sorted(names - {"exceptions.txt"})


@cache
def marked() -> frozenset[str]:
    """The ids that tests carry, as ``@pytest.mark.statement("SK01")`` or ``marks=statement(…)``."""
    found = set()
    for path in sources("tests"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "statement":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}"
                    found.add(str(argument.value))
    return frozenset(found)


def test_no_statement_is_listed_twice():
    everything = [id_ for name in statement_files() for id_ in listed(name)]
    assert sorted({id_ for id_ in everything if everything.count(id_) > 1}) == []


@pytest.mark.parametrize("name", statement_files())
def test_every_statement_is_the_marker_of_a_test(name):
    assert sorted(set(listed(name)) - marked()) == []


def test_every_marker_is_a_statement():
    known = {id_ for name in statement_files() for id_ in listed(name)}
    assert sorted(marked() - known) == []


def test_exceptions_are_few_and_known():
    """Each is told in docs/compatibility.md, and its marker is on a test of what we do instead."""
    known = {id_ for name in statement_files() for id_ in listed(name)}
    exceptions = listed("exceptions.txt")
    assert sorted(set(exceptions) - known) == []
    assert len(exceptions) <= EXCEPTIONS_SHARE * len(known)
    assert sorted(set(exceptions) - marked()) == []
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert [id_ for id_ in exceptions if f"| {id_} |" not in page] == []
