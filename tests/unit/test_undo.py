"""ADD rolls back, DEL sweeps."""

from __future__ import annotations

from typing import NoReturn

import pytest

from cni_plugins.errors import Busy, CniError, Interrupted, KernelError
from cni_plugins.undo import Cleanup, Undo


def fail(error: BaseException) -> NoReturn:
    """A step that does not work."""
    raise error


def test_success_undoes_nothing() -> None:
    """The steps are forgotten."""
    done: list[str] = []
    with Undo() as undo:
        undo.push("a", done.append, "a")
    assert done == []


@pytest.mark.parametrize("error", [CniError(7, "no"), RuntimeError("bug"), Interrupted("SIGTERM")])
def test_failure_replays_the_inverses_backwards(error: BaseException) -> None:
    """And passes the error on, whatever it is."""
    done: list[str] = []
    with pytest.raises(type(error)) as caught, Undo() as undo:
        undo.push("a", done.append, "a")
        undo.push("b", done.append, "b")
        fail(error)
    assert caught.value is error
    assert done == ["b", "a"]


def test_a_failing_inverse_neither_hides_the_error_nor_stops_the_replay() -> None:
    """It becomes a note."""
    done: list[str] = []
    with pytest.raises(CniError) as caught, Undo() as undo:
        undo.push("link", done.append, "link")
        undo.push("lease", fail, KernelError("disk full"))
        undo.push("rule", fail, RuntimeError("bug"))
        raise CniError(7, "first")
    assert caught.value.__notes__ == [
        "rollback of rule: RuntimeError('bug')",
        "rollback of lease: disk full",
    ]
    assert caught.value.msg == "first"
    assert done == ["link"]


def test_an_inverse_runs_once() -> None:
    """A second replay has nothing left to do."""
    done: list[str] = []
    undo = Undo()
    undo.push("a", done.append, "a")
    undo.replay(CniError(1, "x"))
    undo.replay(CniError(1, "x"))
    assert done == ["a"]


def test_what_an_inverse_pushes_is_undone_too() -> None:
    """A delegate's DEL may do so."""
    done: list[str] = []
    undo = Undo()
    undo.push("outer", lambda: undo.push("inner", done.append, "inner"))
    undo.replay(CniError(1, "x"))
    assert done == ["inner"]


def test_the_rollback_is_announced_before_its_first_step() -> None:
    """The deadline then offers its reserve."""
    order: list[str] = []
    with pytest.raises(CniError), Undo(lambda: order.append("announced")) as undo:
        undo.push("a", order.append, "a")
        fail(CniError(1, "x"))
    assert order == ["announced", "a"]


def test_a_sweep_without_failures() -> None:
    """Does every step and says nothing."""
    done: list[str] = []
    with Cleanup() as cleanup:
        cleanup.attempt("a", done.append, "a")
        cleanup.attempt("b", done.append, "b")
    assert done == ["a", "b"]


def test_one_failure_keeps_its_code_and_details() -> None:
    """And the sweep goes on behind it."""
    done: list[str] = []
    with pytest.raises(CniError) as caught, Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Busy("lock /x: held", "by pid 7"))
        cleanup.attempt("link", done.append, "link")
    assert (caught.value.code, caught.value.msg, caught.value.details) == (
        11,
        "clean up lease: lock /x: held",
        "by pid 7",
    )
    assert isinstance(caught.value.__cause__, Busy)
    assert done == ["link"]


def test_several_failures_are_reported_at_once() -> None:
    """Each with its reason; codes that differ become 999."""
    with pytest.raises(CniError) as caught, Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Busy("held"))
        cleanup.attempt("rules", fail, KernelError("no such chain", details="ENOENT"))
        cleanup.attempt("link", fail, RuntimeError("bug"))
    assert caught.value.code == 999
    assert caught.value.msg == "clean up lease, rules, link: 3 steps failed, the others were done"
    assert (
        caught.value.details
        == "lease: held\nrules: no such chain; ENOENT\nlink: RuntimeError('bug')"
    )


def test_several_failures_of_one_code_keep_it() -> None:
    """Try again later is then the whole truth."""
    with pytest.raises(CniError) as caught, Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Busy("held"))
        cleanup.attempt("rules", fail, Busy("held"))
    assert caught.value.code == 11


def test_a_bug_among_failures_of_one_code_makes_it_999() -> None:
    """Trying again would not help."""
    with pytest.raises(CniError) as caught, Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Busy("held"))
        cleanup.attempt("rules", fail, RuntimeError("bug"))
    assert caught.value.code == 999


def test_an_error_between_the_steps_is_passed_on() -> None:
    """Together with what the steps had to say."""
    with pytest.raises(RuntimeError, match="^outside") as caught, Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Busy("held"))
        fail(RuntimeError("outside"))
    assert caught.value.__notes__ == ["clean up lease: held"]


def test_an_interruption_ends_the_sweep() -> None:
    """It is no failure of a step."""
    with pytest.raises(Interrupted), Cleanup() as cleanup:
        cleanup.attempt("lease", fail, Interrupted("SIGTERM"))
