"""ADD rolls back, DEL sweeps: the two ways a verb treats failure.

Neither swallows an error: rollback trouble rides along as notes on the original error and ends in
the error object's details; a sweep reports all its failures at once.
"""

from __future__ import annotations

from cni_plugins.errors import INTERNAL, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, Self


class Undo:
    """The inverses of what ADD has done so far; replayed backwards when the block fails.

    Example::

        with Undo() as undo:
            port = host.add_veth(...)
            undo.push(f"veth {port.name}", host.discard_index, port.index)

    Args:
        before_replay: called when a rollback begins; the deadline then offers its reserve.
    """

    def __init__(self, before_replay: Callable[[], None] | None = None) -> None:
        self._steps: list[tuple[str, Callable[..., object], tuple[Any, ...]]] = []
        self._before_replay = before_replay

    def push(self, what: str, inverse: Callable[..., object], /, *args: Any) -> None:
        """Remember ``inverse(*args)``; it must tolerate that its object is already gone."""
        self._steps.append((what, inverse, args))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            self.replay(exc)

    def replay(self, exc: BaseException) -> None:
        """Run every inverse, newest first; their failures become notes on ``exc``."""
        if self._before_replay is not None:
            self._before_replay()
        while self._steps:
            what, inverse, args = self._steps.pop()
            try:
                inverse(*args)
            except Exception as trouble:  # noqa: BLE001 - the replay must reach the first step
                exc.add_note(f"rollback of {what}: {_say(trouble)}")


class Cleanup:
    """A sweep: every step is attempted, and leaving the block raises one error for all failures.

    Example::

        with Cleanup() as cleanup:
            cleanup.attempt("lease", ipam.release)
            cleanup.attempt("masquerade", masquerade.discard, ctx)
    """

    def __init__(self) -> None:
        self._failures: list[tuple[str, Exception]] = []

    def attempt(self, what: str, step: Callable[..., object], /, *args: Any) -> None:
        """Run ``step(*args)`` and remember its failure, if any."""
        try:
            step(*args)
        except Exception as failure:  # noqa: BLE001 - a sweep goes on whatever happens
            self._failures.append((what, failure))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            for what, failure in self._failures:
                exc.add_note(f"clean up {what}: {_say(failure)}")
            return
        if not self._failures:
            return
        raise self._report() from self._failures[0][1]

    def _report(self) -> CniError:
        """One failure keeps its own code and details; several are listed in the details."""
        if len(self._failures) == 1:
            what, failure = self._failures[0]
            if not isinstance(failure, CniError):
                return CniError(INTERNAL, f"clean up {what}: {_say(failure)}")
            return CniError(failure.code, f"clean up {what}: {failure.msg}", failure.details)
        codes = {f.code if isinstance(f, CniError) else INTERNAL for _, f in self._failures}
        code = codes.pop() if len(codes) == 1 else INTERNAL
        listed = ", ".join(what for what, _ in self._failures)
        return CniError(
            code,
            f"clean up {listed}: {len(self._failures)} steps failed, the others were done",
            "\n".join(f"{what}: {_say(failure)}" for what, failure in self._failures),
        )


def _say(failure: Exception) -> str:
    """Our own errors speak for themselves; of others the class tells more than the text."""
    return str(failure) if isinstance(failure, CniError) else repr(failure)
