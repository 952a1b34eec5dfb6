"""From a request to a reply: the checks before a verb, the verb, and its answer.

Source: CNI spec 1.1.0, section 2; order, codes and messages as pkg/skel of containernetworking/cni.
"""

from __future__ import annotations

from cni_plugins.errors import (
    INTERNAL,
    INVALID_NETNS,
    IO_FAILURE,
    CniError,
    DecodeError,
    Interrupted,
    NetnsError,
    RequestError,
    VersionError,
)
from cni_plugins.protocol import spec
from cni_plugins.protocol.request import Reply, parse_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.plugin import Plugin
    from cni_plugins.protocol.request import Call, Request

STDIN_BYTES = 8 << 20
"""More than any configuration needs; a runtime's own limit is far below it."""


def run(plugin: Plugin, request: Request) -> Reply:
    """Answer one call; never raises, never exits, prints nothing."""
    log: list[str] = []
    try:
        stdout = _answer(plugin, request, log)
        exit_code = 0
    except CniError as e:
        stdout, exit_code = error_object(e), 1
    except Interrupted as e:
        error = CniError(INTERNAL, f"interrupted by {e}: what this call had done was undone")
        _copy_notes(e, error)
        stdout, exit_code = error_object(error), 1
    except Exception as e:  # noqa: BLE001 - a traceback on stdout would break the protocol
        import traceback  # noqa: PLC0415 - never, one hopes

        log.append(traceback.format_exc())
        error = CniError(INTERNAL, f"{type(e).__name__}: {e}", "a bug; its traceback is on stderr")
        _copy_notes(e, error)
        stdout, exit_code = error_object(error), 1
    return Reply(stdout, _lines(log), exit_code)


def _answer(plugin: Plugin, request: Request, log: list[str]) -> bytes:
    if not request.env.get("CNI_COMMAND") and plugin.about:
        log.append(plugin.about)
        log.append(f"CNI protocol versions supported: {', '.join(plugin.versions)}")
        return b""
    call = parse_call(request.env)
    if call.command == "VERSION":
        return version_object(plugin.versions)
    stdin = _read(request)
    document = _decode(stdin)
    network = _network_name(document)
    if call.command not in spec.VERBS:
        raise RequestError(f"unknown CNI_COMMAND: {call.command}")
    version = _config_version(document)
    gate(plugin, call.command, version)
    if call.command in {"ADD", "DEL"} and not call.netns_override:
        _refuse_own_netns(call)
    from cni_plugins import verbs  # noqa: PLC0415 - not before a verb runs
    from cni_plugins.context import Context  # noqa: PLC0415 - as above

    with Context(
        plugin=plugin.type,
        call=call,
        network=network,
        cni_version=version,
        document=document,
        stdin=stdin,
        env=request.env,
        deadline=request.deadline,
        log=log,
        caller=request.caller,
        background=request.background,
    ) as ctx:
        answer = verbs.perform(plugin, ctx)
    return b"" if answer is None else _json(answer)


def version_object(versions: tuple[str, ...]) -> bytes:
    """The answer to VERSION: this library's version of the spec and the plugin's list."""
    listed = ",".join(f'"{version}"' for version in versions)
    return f'{{"cniVersion":"{spec.CURRENT}","supportedVersions":[{listed}]}}\n'.encode()


def error_object(error: CniError) -> bytes:
    """The error object of the spec; notes left by a rollback end in its details."""
    details = "\n".join(filter(None, [error.details, *getattr(error, "__notes__", ())]))
    document: dict[str, Any] = {"code": error.code, "msg": error.msg}
    if details:
        document["details"] = details
    return _json(document)


def _read(request: Request) -> bytes:
    try:
        stdin = request.stdin()
    except OSError as e:
        raise CniError(IO_FAILURE, f"error reading from stdin: {e.strerror or e}") from e
    if len(stdin) > STDIN_BYTES:
        raise DecodeError(f"error unmarshall network config: it is larger than {STDIN_BYTES} bytes")
    return stdin


def _decode(stdin: bytes) -> dict[str, Any]:
    from cni_plugins.protocol.config import decode_json, find  # noqa: PLC0415 - as needed

    try:
        document = decode_json(stdin)
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise ValueError("expected an object")  # noqa: TRY004, TRY301
        name = find(document, "name")
        if name is not None and not isinstance(name, str):
            raise ValueError("name: expected a string")  # noqa: TRY301
    except ValueError as e:
        raise DecodeError(f"error unmarshall network config: {e}") from None
    return document


def _network_name(document: dict[str, Any]) -> str:
    from cni_plugins.protocol.netconf import parse_name  # noqa: PLC0415 - not before JSON is needed

    return parse_name(document)


def _config_version(document: dict[str, Any]) -> str:
    from cni_plugins.protocol.config import find  # noqa: PLC0415 - as needed

    version = find(document, "cniVersion")
    if version is None:
        return ""
    if not isinstance(version, str):
        raise DecodeError("decoding version from network config: cniVersion: expected a string")
    return version


def gate(plugin: Plugin, command: str, version: str) -> None:
    """Whether the configuration's version and the plugin's allow the verb.

    Raises:
        DecodeError: a version cannot be compared.
        VersionError: the verb or the version is not supported.
    """
    from cni_plugins.protocol.versions import parse_version  # noqa: PLC0415 - as above

    since = {
        "CHECK": spec.CHECK_SINCE,
        "GC": spec.GC_AND_STATUS_SINCE,
        "STATUS": spec.GC_AND_STATUS_SINCE,
    }.get(command)
    if since is not None:
        wanted = parse_version(version)
        if wanted < since:
            raise VersionError(f"config version does not allow {command}")
        if version not in plugin.versions and not any(
            parse_version(supported) >= wanted for supported in plugin.versions
        ):
            raise VersionError(f"plugin version does not allow {command}")
    if (version or "0.1.0") not in plugin.versions:
        listed = " ".join(f'"{supported}"' for supported in plugin.versions)
        raise VersionError(
            "incompatible CNI versions",
            f'config is "{version or "0.1.0"}", plugin supports [{listed}]',
        )


def _refuse_own_netns(call: Call) -> None:
    """Protect the host: ADD and DEL never act on the namespace the plugin itself stands in.

    The reference suite looks only after the work is done and then prints a second document.
    """
    from cni_plugins.host import netns  # noqa: PLC0415 - loads ctypes

    try:
        container = netns.NetNS.open(call.netns)
    except NetnsError:
        return
    with container:
        try:
            own = netns.current_id()
        except OSError as e:
            raise NetnsError(f"get plugin's netns failed: {e}", code=INVALID_NETNS) from e
        if container.id == own:
            raise NetnsError(
                "plugin's netns and netns from CNI_NETNS should not be the same",
                code=INVALID_NETNS,
            )


def _json(document: dict[str, Any]) -> bytes:
    from cni_plugins import jsontext  # noqa: PLC0415 - VERSION does without

    text = jsontext.dumps(document, indent=4, ensure_ascii=False)
    for character in "<>&":  # as Go's encoder writes them
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace")


def _copy_notes(source: BaseException, target: CniError) -> None:
    for note in getattr(source, "__notes__", ()):
        target.add_note(note)


def _lines(log: list[str]) -> bytes:
    return "".join(f"{line.rstrip()}\n" for line in log).encode("utf-8", "backslashreplace")
