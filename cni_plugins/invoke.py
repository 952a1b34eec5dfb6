"""Finding plugins and running them, as a runtime or a delegating plugin does.

Source: pkg/invoke of containernetworking/cni; its error texts are what callers match on.
"""

from __future__ import annotations

import errno
import os
import time

from cni_plugins import jsontext
from cni_plugins.errors import CniError, ConfigError, ExecError
from cni_plugins.protocol import spec
from cni_plugins.protocol.versions import decode_any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_plugins.host.command import Completed, Runner
    from cni_plugins.protocol.result import Result

_BUSY_RETRY_S = 0.02
_BUSY_LIMIT_S = 5.0


def find_plugin(plugin_type: str, path: str) -> str:
    """The executable of a plugin: the first regular file of that name.

    Args:
        plugin_type: ``type`` of a configuration.
        path: CNI_PATH, directories separated by ``:``.

    Raises:
        CniError: 999, with the texts runtimes know.
    """
    if not plugin_type:
        raise CniError(999, "no plugin name provided")
    if "/" in plugin_type or "\0" in plugin_type or plugin_type in {".", ".."}:
        raise CniError(999, f"invalid plugin name: {plugin_type}")
    directories = path.split(":") if path else []
    if not directories:
        raise CniError(999, "no paths provided", "CNI_PATH is empty")
    for directory in directories:
        candidate = os.path.join(directory, plugin_type)
        if os.path.isfile(candidate):
            return candidate
    raise CniError(999, f'failed to find plugin "{plugin_type}" in path [{" ".join(directories)}]')


def invoke(runner: Runner, path: str, stdin: bytes, env: Mapping[str, str]) -> Completed:
    """Run a plugin; an executable that is being replaced at this moment is tried again.

    Raises:
        CniError: as the plugin answered, or what its ending says.
    """
    give_up = time.monotonic() + min(_BUSY_LIMIT_S, runner.remaining())
    while True:
        try:
            done = runner.execute([path], stdin=stdin, env=env)
        except ExecError as e:
            is_busy = isinstance(e.__cause__, OSError) and e.__cause__.errno == errno.ETXTBSY
            if not is_busy or time.monotonic() > give_up:
                raise _never_ran(path, e) from e
            # the kernel has no event for "no longer open for writing"
            time.sleep(min(_BUSY_RETRY_S, runner.remaining()))
            continue
        if done.status != 0:
            raise plugin_error(done)
        return done


def _never_ran(path: str, e: ExecError) -> CniError:
    if isinstance(e.__cause__, OSError):
        reason = f"fork/exec {path}: {(e.__cause__.strerror or '').lower()}"
    else:
        reason = e.msg
    return CniError(0, f"netplugin failed with no error message: {reason}")


def plugin_error(done: Completed) -> CniError:
    """What a plugin that failed has to say: its error object, else its stderr, else its ending."""
    if not done.stdout.strip():
        said = done.stderr.decode("utf-8", "replace")
        if said:
            return CniError(0, f"netplugin failed: {jsontext.dumps(said)}: {done.ending}")
        return CniError(0, f"netplugin failed with no error message: {done.ending}")
    text = done.stdout.decode("utf-8", "replace")
    try:
        document = jsontext.loads(text)
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004, TRY301
        code = document.get("code", 0)
        if type(code) is not int or code < 0:
            raise ValueError("its code is no number")  # noqa: TRY301
    except ValueError as e:
        return CniError(
            0,
            "netplugin failed but error parsing its diagnostic message "
            f"{jsontext.dumps(text)}: {e}",
        )
    return CniError(code, str(document.get("msg", "")), str(document.get("details", "")))


def added_document(stdout: bytes, config_version: str) -> dict[str, Any]:
    """The result object an ADD printed; without a version it has the configuration's.

    Raises:
        CniError: 0, it is no JSON object.
    """
    try:
        document = jsontext.loads(stdout.decode("utf-8", "replace")) if stdout.strip() else None
        if document is None and stdout.strip() != b"null":
            raise ValueError("unexpected end of JSON input")  # noqa: TRY301
        document = {} if document is None else document
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004, TRY301
    except ValueError as e:
        raise CniError(0, f"failed to unmarshal raw result: {e}") from None
    version = document.get("cniVersion")
    if not isinstance(version, str) or not version:
        document["cniVersion"] = config_version or "0.1.0"
    return document


def parse_result(stdout: bytes, config_version: str) -> Result:
    """The result an ADD printed.

    Raises:
        CniError: it is no JSON object, or of an unknown version.
    """
    try:
        return decode_any(added_document(stdout, config_version), config_version)
    except ConfigError as e:
        raise CniError(999, f"its result is faulty: {e.msg}", e.details) from e


def probe_versions(runner: Runner, path: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """The spec versions a plugin supports, by its VERSION; one that knows no VERSION is 0.1.0's.

    Raises:
        CniError: it cannot be asked, or its answer makes no sense.
    """
    dummies = dict.fromkeys(("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy")
    empty = dict.fromkeys(("CNI_CONTAINERID", "CNI_ARGS"), "")
    asked = {**env, "CNI_COMMAND": "VERSION", **dummies, **empty}
    stdin = jsontext.dumps({"cniVersion": spec.CURRENT}).encode()
    try:
        done = invoke(runner, path, stdin, asked)
    except CniError as e:
        if e.msg == "unknown CNI_COMMAND: VERSION":
            return ("0.1.0",)
        raise
    return decode_versions(done.stdout)


def decode_versions(stdout: bytes) -> tuple[str, ...]:
    """The list in an answer to VERSION.

    Raises:
        CniError: 6, it makes no sense.
    """
    try:
        document = jsontext.loads(stdout)
        if not isinstance(document, dict):
            raise ValueError("expected an object")  # noqa: TRY004, TRY301
    except ValueError as e:
        raise CniError(6, f"decoding version info: {e}") from None
    version = document.get("cniVersion")
    if not version:
        raise CniError(6, "decoding version info: missing field cniVersion")
    listed = document.get("supportedVersions")
    if not listed:
        if version == "0.2.0":
            return ("0.1.0", "0.2.0")
        raise CniError(6, "decoding version info: missing field supportedVersions")
    return tuple(map(str, listed))
