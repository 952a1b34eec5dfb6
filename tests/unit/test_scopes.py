"""The suite's own scopes behave as those of the standard library."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def plain(log: list[str]) -> Iterator[str]:
    """Cleans up whatever happens."""
    log.append("in")
    try:
        yield "value"
    finally:
        log.append("out")


def swallowing(log: list[str]) -> Iterator[None]:
    """Takes every KeyError."""
    try:
        yield
    except KeyError:
        log.append("taken")


def translating(_log: list[str]) -> Iterator[None]:
    """Raises another error."""
    try:
        yield
    except KeyError as e:
        raise LookupError("another") from e


def twice(_log: list[str]) -> Iterator[None]:
    """Goes on where it should end."""
    yield
    yield


def stubborn(_log: list[str]) -> Iterator[None]:
    """Goes on after an error, too."""
    try:
        yield
    except KeyError:
        yield


@pytest.mark.parametrize("body", [plain, swallowing, translating, twice, stubborn])
@pytest.mark.parametrize("error", [None, KeyError("k"), ValueError("v"), SystemExit(3)])
def test_a_generator_as_the_frame_of_a_block(
    body: Callable[[list[str]], Iterator[Any]], error: BaseException | None
) -> None:
    def outcome(decorate: Callable[..., Any]) -> list[str]:
        log: list[str] = []
        try:
            with decorate(body)(log) as value:
                log.append(repr(value))
                if error is not None:
                    raise error
            log.append("after")
        except BaseException as e:  # noqa: BLE001 - of any kind
            log += [repr(e), repr(e.__cause__), str(e is error)]
        return log

    assert outcome(scopes.contextmanager) == outcome(contextlib.contextmanager)


def test_an_error_keeps_the_place_it_came_from() -> None:
    def origins(decorate: Callable[..., Any]) -> list[str]:
        def fail() -> None:
            raise KeyError

        names = []
        with pytest.raises(KeyError) as caught, decorate(plain)([]):
            fail()
        traceback = caught.value.__traceback__
        while traceback:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        return names

    assert origins(scopes.contextmanager) == origins(contextlib.contextmanager)


@pytest.mark.parametrize("kinds", [(), (KeyError,), (KeyError, OSError), (Exception,)])
@pytest.mark.parametrize("error", [None, KeyError, LookupError, FileNotFoundError, SystemExit])
def test_an_error_is_suppressed(
    kinds: tuple[type[Exception], ...], error: type[BaseException] | None
) -> None:
    def outcome(make: Callable[..., Any]) -> str:
        try:
            with make(*kinds):
                if error is not None:
                    raise error
        except BaseException as e:  # noqa: BLE001 - of any kind
            return repr(e)
        return "on"

    assert outcome(scopes.suppress) == outcome(contextlib.suppress)


@pytest.mark.parametrize("decorate", [scopes.cached_property, functools.cached_property])
def test_an_attribute_is_found_once(decorate: Callable[..., Any]) -> None:
    asked = []

    class Owner:
        @decorate
        def found(self) -> object:
            """The docstring."""
            asked.append(self)
            return object()

    one, other = Owner(), Owner()
    assert one.found is one.found
    assert one.found is not other.found
    assert asked == [one, other]
    assert Owner.__dict__["found"].__doc__ == "The docstring."
    assert Owner.found is Owner.__dict__["found"]
    one.found = None
    assert one.found is None
    del one.found
    assert one.found is not None
