"""The environment as the caller gave it, without what PyInstaller's bootloader made of it.

Source: PyInstaller manual, "Run-time Information": the bootloader keeps the original
LD_LIBRARY_PATH in LD_LIBRARY_PATH_ORIG and talks to its child process in ``_PYI_…`` variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SAVED = "LD_LIBRARY_PATH_ORIG"


def caller_environment(environ: Mapping[str, str], *, is_frozen: bool) -> dict[str, str]:
    """The caller's environment.

    Args:
        environ: this process's environment.
        is_frozen: whether the bootloader started this process.
    """
    env = {
        name: value for name, value in environ.items() if not name.startswith(("_PYI_", "_MEIPASS"))
    }
    if is_frozen:
        env.pop("LD_LIBRARY_PATH", None)
        original = env.pop(_SAVED, None)
        if original is not None:
            env["LD_LIBRARY_PATH"] = original
    return env
