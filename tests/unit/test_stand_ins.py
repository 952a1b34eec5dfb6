"""contextlib's and functools' behaviour, where the suite has its own."""

from __future__ import annotations

import contextlib
import functools
import traceback
from types import SimpleNamespace
from typing import Any

import pytest

from cni_plugins import stand_ins

THEIRS: Any = SimpleNamespace(
    contextmanager=contextlib.contextmanager,
    suppress=contextlib.suppress,
    ExitStack=contextlib.ExitStack,
    cached_property=functools.cached_property,
)
OURS: Any = stand_ins


class Stop(BaseException):
    """No Exception."""


ERRORS = [None, ValueError("v"), KeyError("k"), Stop("s"), StopIteration("i"), GeneratorExit()]


def outcome(scenario, kit, error):
    """What a scenario noted, and the error that left it, with its context."""
    notes: list[Any] = []
    try:
        scenario(kit, error, notes)
    except BaseException as e:
        notes += [type(e), str(e), e is error, type(e.__context__), type(e.__cause__)]
    return notes


def fail(error):
    if error is not None:
        raise error


def a_block(kit, error, notes):
    @kit.contextmanager
    def block(value, *, more):
        notes.append(("begun", value, more))
        try:
            yield value + 1
        finally:
            notes.append("ended")

    with block(1, more=2) as given:
        notes.append(given)
        fail(error)
    notes.append("behind")


def a_block_that_deals_with_errors(kit, error, notes):
    @kit.contextmanager
    def block():
        try:
            yield
        except (ValueError, Stop) as e:
            notes.append(type(e))

    with block():
        fail(error)
    notes.append("behind")


def a_block_that_raises_another(kit, error, notes):
    @kit.contextmanager
    def block():
        try:
            yield
        except ValueError as e:
            raise OSError("o") from e
        finally:
            notes.append("ended")

    with block():
        fail(error)


def a_block_that_fails_at_its_end(kit, error, notes):
    @kit.contextmanager
    def block():
        yield
        raise OSError("o")

    with block():
        fail(error)


def a_block_that_goes_on(kit, error, notes):
    @kit.contextmanager
    def block():
        try:
            yield
        except ValueError:
            pass
        yield

    with block():
        fail(error)


def a_method(kit, error, notes):
    class Thing:
        @kit.contextmanager
        def block(self, value):
            """Its text."""
            yield (self, value)

    thing = Thing()
    with thing.block(3) as given:
        notes.append((given[0] is thing, given[1], Thing.block.__doc__, Thing.block.__name__))
        fail(error)


def suppressed(kit, error, notes):
    with kit.suppress(ValueError, LookupError):
        fail(error)
        notes.append("to the end")
    notes.append("behind")


def a_stack(kit, error, notes):
    @kit.contextmanager
    def block(name):
        notes.append(f"begin {name}")
        try:
            yield name
        finally:
            notes.append(f"end {name}")

    with kit.ExitStack() as stack:
        notes.append(stack.enter_context(block("a")))
        stack.callback(notes.append, "called")
        stack.enter_context(block("b"))
        fail(error)


def a_stack_that_deals_with_errors(kit, error, notes):
    with kit.ExitStack() as stack:
        stack.callback(notes.append, "after")
        stack.enter_context(kit.suppress(ValueError, Stop))
        stack.callback(notes.append, "before")
        fail(error)
    notes.append("behind")


def a_stack_whose_blocks_fail(kit, error, notes):
    def refuse(text):
        notes.append(text)
        raise OSError(text)

    with kit.ExitStack() as stack:
        stack.callback(notes.append, "last")
        stack.callback(refuse, "second")
        stack.enter_context(kit.suppress(OSError))
        stack.callback(refuse, "first")
        fail(error)


def a_stack_that_is_closed(kit, error, notes):
    stack = kit.ExitStack()
    stack.callback(notes.append, 1)
    stack.callback(notes.append, 2)
    stack.close()
    stack.close()
    fail(error)


SCENARIOS = [
    a_block,
    a_block_that_deals_with_errors,
    a_block_that_raises_another,
    a_block_that_fails_at_its_end,
    a_block_that_goes_on,
    a_method,
    suppressed,
    a_stack,
    a_stack_that_deals_with_errors,
    a_stack_whose_blocks_fail,
    a_stack_that_is_closed,
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_blocks(scenario, error):
    assert outcome(scenario, OURS, error) == outcome(scenario, THEIRS, error)


def test_a_traceback_does_not_show_the_block_s_own_lines():
    @OURS.contextmanager
    def block():
        yield

    try:
        with block():
            raise ValueError
    except ValueError as e:
        assert len(traceback.extract_tb(e.__traceback__)) == 1


@pytest.mark.parametrize("kit", [OURS, THEIRS], ids=["ours", "theirs"])
def test_a_property_is_found_once(kit):
    class Thing:
        def __init__(self):
            self.times = 0

        @kit.cached_property
        def value(self):
            """Its text."""
            self.times += 1
            return [self.times]

    thing, other = Thing(), Thing()
    assert thing.value is thing.value
    assert (thing.value, thing.times, other.times) == ([1], 1, 0)
    assert Thing.value.__doc__ == "Its text."
    del thing.value
    assert thing.value == [2]
    thing.value = "given"
    assert thing.value == "given"
