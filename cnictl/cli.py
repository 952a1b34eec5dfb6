"""The command line of cnictl; docs/cnictl.md is its page."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from cni_plugins import build_info, catalog, invoke
from cni_plugins.deadline import Deadline
from cni_plugins.errors import CniError, Interrupted
from cni_plugins.frozen import as_dict
from cni_plugins.host.command import Runner
from cnictl import conflist, identity, render, server
from cnictl.cache import Cache
from cnictl.calls import Caller, Container
from cnictl.options import UsageError, parse_args, parse_capabilities
from cnictl.runtime import Runtime, container_lock, everybody_lock
from forkserver.seats import CALLS_PER_CHILD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnictl.networks import NetworkList

CONF_DIR = "/etc/cni/net.d"
PLUGIN_DIR = "/opt/cni/bin"
_TIMEOUT_S = 120.0


def main(argv: Sequence[str], env: Mapping[str, str], stdout: TextIO, stderr: TextIO) -> int:
    """Run one command; 0 when it succeeded, 1 when it failed, 2 when it made no sense."""
    parser = _parser()
    if not argv:
        parser.print_help(stdout)
        return 0
    try:
        options = parser.parse_args(argv)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    command = Command(options, env, stdout, stderr)
    try:
        status: int = options.run(command)
    except UsageError as e:
        stderr.write(f"cnictl: {e}\n")
        return 2
    except CniError as e:
        command.say_warnings()
        stderr.write(f"{render.failure(e)}\n")
        return 1
    except (Interrupted, KeyboardInterrupt):
        stderr.write("cnictl: interrupted\n")
        return 1
    command.say_warnings()
    return status


@dataclass
class Command:
    """One command's options and what it stands on."""

    options: argparse.Namespace
    env: Mapping[str, str]
    stdout: TextIO
    stderr: TextIO

    @cached_property
    def deadline(self) -> Deadline:
        """When everything has to be done."""
        return Deadline.after(self.options.timeout)

    @cached_property
    def path(self) -> str:
        """Where plugins are looked for."""
        return self.options.cni_path or self.env.get("CNI_PATH") or PLUGIN_DIR

    @cached_property
    def conf_dir(self) -> str:
        """Where networks are looked for."""
        return self.options.conf_dir or self.env.get("NETCONFPATH") or CONF_DIR

    @cached_property
    def cache(self) -> Cache:
        """Libcni's result cache."""
        return Cache()

    @cached_property
    def caller(self) -> Caller:
        """Executes plugins, and remembers what they took and said."""
        return Caller(Runner(self.env, self.deadline), self.env, self.path)

    @cached_property
    def runtime(self) -> Runtime:
        """Runs networks."""
        return Runtime(self.caller, self.cache)

    @cached_property
    def network(self) -> NetworkList:
        """The network that the command names."""
        if self.options.conf:
            found = conflist.load_file(self.options.conf)
            if found.name != self.options.network:
                raise UsageError(
                    f"{self.options.conf} has the network {found.name!r}, "
                    f"not {self.options.network!r}"
                )
            return found
        return conflist.load(self.conf_dir, self.options.network)

    @cached_property
    def container(self) -> Container:
        """The container that the command names."""
        path = identity.netns_path(self.options.container)
        return Container(
            id=self.options.id or identity.container_id(path),
            netns=path,
            ifname=self.options.ifname or self.env.get("CNI_IFNAME") or "eth0",
            args=parse_args(self.options.args or self.env.get("CNI_ARGS", "")),
            capability_args=parse_capabilities(self.options.cap or self.env.get("CAP_ARGS", "")),
        )

    def print(self, text: str) -> None:
        """A line for standard output."""
        self.stdout.write(f"{text}\n")

    def print_json(self, document: Any) -> None:
        """A document for standard output."""
        self.print(json.dumps(document, indent=4, ensure_ascii=False))

    def say_warnings(self) -> None:
        """What plugins said on their stderr."""
        for line in self.caller.notes:
            self.stderr.write(f"  {'note':<12}{line}\n")


def add(command: Command) -> int:
    """ADD; a failed one is followed by DEL over all plugins, as the spec asks for."""
    network, container = command.network, command.container
    with container_lock(container.id, command.deadline):
        try:
            result = command.runtime.add(network, container)
        except CniError:
            command.deadline.release()
            for trouble in command.runtime.sweep(network, container):
                command.caller.notes.append(f"DEL after the failed ADD: {trouble}")
            raise
    if command.options.json:
        command.print_json(result)
    else:
        steps = command.caller.steps
        command.print(render.summary(network.name, container, result, steps))
    return 0


def delete(command: Command) -> int:
    """DEL."""
    network, container = command.network, command.container
    with container_lock(container.id, command.deadline):
        command.runtime.delete(network, container)
    if not command.options.json:
        command.print(f"{container.id} is detached from {network.name} ({container.ifname})")
        command.print("\n".join(render.timings(command.caller.steps)))
    return 0


def check(command: Command) -> int:
    """CHECK."""
    network, container = command.network, command.container
    with container_lock(container.id, command.deadline):
        was_done = command.runtime.check(network, container)
    if not command.options.json:
        verdict = "is as it was added" if was_done else "was not checked: disableCheck is set"
        command.print(f"{container.id} on {network.name} ({container.ifname}) {verdict}")
        command.print("\n".join(render.timings(command.caller.steps)))
    return 0


def status(command: Command) -> int:
    """STATUS of a network; without one, how the fork server does."""
    if command.options.network is None:
        return server.show(command)
    network = command.network
    was_done = command.runtime.status(network)
    if not command.options.json:
        verdict = "is ready" if was_done else f"has no STATUS (version {network.cni_version!r})"
        command.print(f"{network.name} {verdict}")
        command.print("\n".join(render.timings(command.caller.steps)))
    return 0


def gc(command: Command) -> int:
    """GC; only shows what it would do unless --apply is given."""
    network, options = command.network, command.options
    valid = _kept(command)
    stale = command.runtime.stale(network, valid)
    rows = [[e.container_id, e.ifname, e.netns or "-"] for e in stale]
    if not options.apply:
        command.print(f"{len(stale)} attachments of {network.name} would go, {len(valid)} stay")
        if rows:
            command.print(render.table(rows))
        command.print("nothing was changed; --apply does it")
        return 0
    with everybody_lock(command.deadline):
        failures = command.runtime.gc(network, valid)
    for failure in failures:
        command.stderr.write(f"{render.failure(failure)}\n")
    command.print(f"{len(stale)} attachments of {network.name} were collected, {len(valid)} stay")
    return 1 if failures else 0


def restore(command: Command) -> int:
    """Make the rules of every living attachment again, after a flush."""
    from cni_plugins.restore import restore as restored  # noqa: PLC0415 - loads every plugin
    from cnictl.adopt import adopt  # noqa: PLC0415 - the same

    found = list(restored(command.env, command.deadline))
    found += adopt(command.cache, command.env, command.deadline)
    if command.options.json:
        command.print_json([as_dict(entry) for entry in found])
    else:
        rows = [[e.network, e.container_id, e.ifname, e.plugin, e.problem or "ok"] for e in found]
        command.print(render.table(rows) or "no attachment here has rules")
        for entry in found:
            command.caller.notes.extend(entry.notes)
    return 1 if any(entry.problem for entry in found) else 0


def version(command: Command) -> int:
    """Cnictl's version, and the spec versions of every plugin on CNI_PATH."""
    found: dict[str, Any] = {}
    for plugin_type in _installed(command.path):
        try:
            found[plugin_type] = list(command.caller.versions(plugin_type))
        except CniError as e:
            found[plugin_type] = str(e)
    if command.options.json:
        command.print_json({"cnictl": build_info.VERSION, "plugins": found})
        return 0
    command.print(f"cnictl {build_info.VERSION} (build {build_info.build_id()})")
    rows = [[t, v if isinstance(v, str) else " ".join(v)] for t, v in found.items()]
    command.print(render.table(rows) or f"no plugins in {command.path}")
    return 0


def list_networks(command: Command) -> int:
    """The networks in order, which one a runtime takes, and the attachments of the cache."""
    entries = conflist.load_all(command.conf_dir)
    rows = [["", "NETWORK", "VERSION", "PLUGINS", "FILE"]]
    problems = []
    chosen = None
    for path, entry in entries:
        if isinstance(entry, CniError):
            problems.append(f"{path}: {entry.msg}")
            continue
        chosen = chosen or path
        types = [plugin.type for plugin in entry.plugins]
        mark = "*" if chosen == path else ""
        rows.append(
            [
                mark,
                entry.name,
                entry.cni_version or "0.1.0",
                ",".join(types),
                os.path.basename(path),
            ]
        )
        for plugin_type in types:
            try:
                invoke.find_plugin(plugin_type, command.path)
            except CniError as e:
                problems.append(f"{path}: {e.msg}")
    attachments = command.cache.attachments()
    if command.options.json:
        command.print_json(
            {
                "networks": [
                    {
                        "name": e.name,
                        "cniVersion": e.cni_version,
                        "file": p,
                        "plugins": [plugin.type for plugin in e.plugins],
                        "chosen": p == chosen,
                    }
                    for p, e in entries
                    if not isinstance(e, CniError)
                ],
                "problems": problems,
                "attachments": [
                    {"network": a.network, "containerId": a.container_id, "ifName": a.ifname}
                    for a in attachments
                ],
            }
        )
        return 1 if problems else 0
    command.print(f"networks of {command.conf_dir} (* is what a runtime takes)")
    command.print(render.table(rows) if len(rows) > 1 else "none")
    for problem in problems:
        command.print(f"problem: {problem}")
    command.print(f"\n{len(attachments)} attachments in the result cache")
    cached = [[a.network, a.container_id, a.ifname, a.netns or "-"] for a in attachments]
    if cached:
        command.print(render.table(cached))
    return 1 if problems else 0


def _kept(command: Command) -> set[tuple[str, str]]:
    """The valid attachments: those named, else the cached ones whose namespace is there."""
    if command.options.keep:
        pairs = [tuple(entry.split(":")) for entry in command.options.keep]
        if not all(len(pair) == 2 and all(pair) for pair in pairs):
            raise UsageError("--keep takes CONTAINER_ID:IFNAME")
        return {(pair[0], pair[1]) for pair in pairs}
    return {
        (entry.container_id, entry.ifname)
        for entry in command.cache.attachments()
        if entry.network == command.network.name and os.path.exists(entry.netns)
    }


def _installed(path: str) -> list[str]:
    """The plugin types of the catalog, and whatever else is executable in the directories."""
    found: dict[str, None] = {}
    for directory in path.split(":"):
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            file = os.path.join(directory, name)
            if name != "cnictl" and os.path.isfile(file) and os.access(file, os.X_OK):
                found[name] = None
    return sorted(found, key=lambda name: (name not in catalog.PLUGINS, name))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--conf-dir", metavar="DIR", help=f"networks (NETCONFPATH, {CONF_DIR})")
    common.add_argument("--cni-path", metavar="PATH", help=f"plugins (CNI_PATH, {PLUGIN_DIR})")
    common.add_argument("--json", action="store_true", help="for programs")
    common.add_argument(
        "--timeout", type=float, default=_TIMEOUT_S, metavar="S", help="seconds for everything"
    )
    network = argparse.ArgumentParser(add_help=False, parents=[common])
    network.add_argument("network", metavar="NETWORK", help="name of the network")
    network.add_argument("--conf", metavar="FILE", help="take the network from this file")
    attachment = argparse.ArgumentParser(add_help=False, parents=[network])
    attachment.add_argument(
        "container", metavar="CONTAINER", help="path of its namespace, `ip netns` name, or pid"
    )
    attachment.add_argument("-i", "--ifname", metavar="NAME", help="(CNI_IFNAME, eth0)")
    attachment.add_argument("--id", metavar="ID", help="container id (from the path)")
    attachment.add_argument("--args", metavar="K=V;…", help="(CNI_ARGS)")
    attachment.add_argument("--cap", metavar="JSON", help="capability arguments (CAP_ARGS)")

    parser = argparse.ArgumentParser(
        prog="cnictl", description="Play the container runtime's role over CNI networks."
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, run, parent, text in (
        ("add", add, attachment, "attach a container to a network"),
        ("del", delete, attachment, "detach it"),
        ("check", check, attachment, "see whether all is as it was added"),
        ("gc", gc, network, "collect attachments whose container is gone"),
        (
            "status",
            status,
            common,
            "see whether a network is ready for new pods; without one, the fork server",
        ),
        ("serve", server.serve, common, "be the node's fork server, which makes calls fast"),
        ("restore", restore, common, "make all rules again after a flush of the firewall"),
        ("version", version, common, "versions of cnictl and of the plugins"),
        ("list", list_networks, common, "networks, problems, cached attachments"),
    ):
        verb = verbs.add_parser(name, parents=[parent], help=text, description=text)
        verb.set_defaults(run=run)
        if name == "status":
            verb.add_argument("network", metavar="NETWORK", nargs="?", help="name of the network")
            verb.add_argument("--conf", metavar="FILE", help="take the network from this file")
        if name == "serve":
            verb.add_argument(
                "--calls-per-child",
                type=int,
                default=CALLS_PER_CHILD,
                metavar="N",
                help=f"calls after which a child makes way for a fresh one ({CALLS_PER_CHILD})",
            )
        if name == "gc":
            verb.add_argument("--apply", action="store_true", help="do it, do not only show it")
            verb.add_argument(
                "--keep", action="append", metavar="ID:IFNAME", help="valid; may be repeated"
            )
    return parser
