"""``with`` and lazy attributes, as in :mod:`contextlib` and :mod:`functools`.

Those bring ``collections``, ``operator`` and more along, a seventh of a fresh process's whole call.
What is here is called as theirs is and does the same, but for a block that raises StopIteration;
mypy takes it for theirs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import contextmanager as contextmanager  # noqa: PLC0414 - as its signature
    from contextlib import suppress as suppress  # noqa: PLC0414 - says, for whoever imports it
    from functools import cached_property as cached_property  # noqa: PLC0414
    from types import TracebackType
    from typing import Any
else:

    class _Scope:
        """A generator's one ``yield``, as the body of a ``with``."""

        __slots__ = ("_generator",)

        def __init__(self, generator: Iterator[Any]) -> None:
            self._generator = generator

        def __enter__(self) -> Any:
            return next(self._generator)

        def __exit__(
            self, _kind: object, exc: BaseException | None, traceback: TracebackType | None
        ) -> bool:
            if exc is None:
                for _ in self._generator:
                    raise RuntimeError("generator didn't stop")
                return False
            try:
                self._generator.throw(exc)
            except StopIteration as end:
                return end is not exc
            except BaseException as raised:
                if raised is not exc:
                    raise
                raised.__traceback__ = traceback
                return False
            raise RuntimeError("generator didn't stop after throw()")

    def contextmanager(function: Callable[..., Iterator[Any]]) -> Callable[..., _Scope]:
        """A function that makes what ``with`` takes, of one that yields once."""

        def made(*args: Any, **named: Any) -> _Scope:
            return _Scope(function(*args, **named))

        made.__doc__ = function.__doc__
        return made

    class suppress:  # noqa: N801 - contextlib's name
        """A block that ends without an error at one of these."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds: type[BaseException]) -> None:
            self._kinds = kinds

        def __enter__(self) -> None:
            pass

        def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
            return kind is not None and issubclass(kind, self._kinds)

    class cached_property:  # noqa: N801 - functools' name
        """An attribute that is found when it is first asked for, and kept."""

        def __init__(self, find: Callable[[Any], Any]) -> None:
            self._find = find
            self.__doc__ = find.__doc__

        def __set_name__(self, _owner: type, name: str) -> None:
            self._name = name

        def __get__(self, instance: Any, _owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._find(instance)
            return value
