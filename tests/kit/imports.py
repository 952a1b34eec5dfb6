"""What a call loads, seen in a fresh interpreter."""

from __future__ import annotations

CALL = """
import sys
from cni_plugins.main import main
status = main(sys.argv[1])
with open(sys.argv[2], "w") as file:
    file.write("\\n".join(sys.modules))
sys.exit(status)
"""
"""A call of the plugin that the first argument names; its modules are in the second's file."""

HEAVY = {
    "asyncio",
    "argparse",
    "collections",
    "contextlib",
    "dataclasses",
    "email",
    "enum",
    "functools",
    "hashlib",
    "http",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "netaddr",
    "pathlib",
    "pyroute2",
    "random",
    "re",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "typing",
    "unittest",
    "urllib",
}
"""Packages that no call needs."""


def packages(modules: str) -> set[str]:
    """The packages of the modules that CALL noted."""
    return {name.split(".")[0] for name in modules.split("\n")}
