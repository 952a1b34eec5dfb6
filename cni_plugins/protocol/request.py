"""One call of a plugin: what it is given, what it answers, and the checks of its environment.

Source: CNI spec 1.1.0, section 2 "Execution Protocol"; the order of the checks and their messages
are those of pkg/skel in containernetworking/cni, which runtimes and tests match on.
"""

from __future__ import annotations

from cni_plugins.errors import RequestError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol import args

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_plugins.background import Background
    from cni_plugins.deadline import Deadline


class Request(Frozen, kw_only=False):
    """Everything a call may know.

    ``stdin`` is only called for verbs that read it; VERSION must not touch standard input.
    ``caller`` is the pid of the runtime, 0 for this process's parent; ``background`` takes what
    need not be over when the answer is given, where there is somebody who waits for it then.
    """

    env: Mapping[str, str]
    stdin: Callable[[], bytes]
    deadline: Deadline
    caller: int = 0
    background: Background | None = None


class Reply(Frozen, kw_only=False):
    """What the process prints and how it exits."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


class Call(Frozen, kw_only=False):
    """The validated environment of a call; "" where the runtime gave nothing."""

    command: str
    container_id: str
    netns: str
    ifname: str
    args: str
    path: str
    netns_override: bool


_REQUIRED = {
    "CNI_COMMAND": ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION", ""),
    "CNI_CONTAINERID": ("ADD", "CHECK", "DEL"),
    "CNI_NETNS": ("ADD", "CHECK"),
    "CNI_IFNAME": ("ADD", "CHECK", "DEL"),
    "CNI_ARGS": (),
    "CNI_PATH": ("ADD", "CHECK", "DEL", "GC", "STATUS"),
}
_VALIDATORS: dict[str, Callable[[str], None]] = {
    "CNI_CONTAINERID": args.validate_container_id,
    "CNI_IFNAME": args.validate_ifname,
}


def parse_call(env: Mapping[str, str]) -> Call:
    """Check the CNI_* variables in the order runtimes expect.

    Raises:
        RequestError: the first invalid variable, else all missing ones in one message.
    """
    command = env.get("CNI_COMMAND", "")
    missing = []
    for name, verbs in _REQUIRED.items():
        value = env.get(name, "")
        if command not in verbs:
            continue
        if not value:
            missing.append(name)
        elif name in _VALIDATORS:
            _VALIDATORS[name](value)
    if missing:
        raise RequestError(f"required env variables [{','.join(missing)}] missing")
    return Call(
        command=command,
        container_id=env.get("CNI_CONTAINERID", ""),
        netns=env.get("CNI_NETNS", ""),
        ifname=env.get("CNI_IFNAME", ""),
        args=env.get("CNI_ARGS", ""),
        path=env.get("CNI_PATH", ""),
        netns_override=env.get("CNI_NETNS_OVERRIDE", "").upper() in {"1", "TRUE"},
    )
