"""Tables whose rows are checked in one test: to begin a test takes longer than most rows do.

``rows`` is for functions without side effects. A failure shows each row that failed; the other
rows are checked all the same.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import repeat
from typing import Any, Final, cast

import pytest

_Test = Callable[..., Any]
_LONGEST: Final = 200
_FAILED: Final = (Exception, pytest.fail.Exception)


class _Failures:
    """The errors of rows, each with a note that has the row."""

    def __init__(self) -> None:
        self._found: list[tuple[str, Exception]] = []

    def add(self, name: str, error: BaseException) -> None:
        """Note the error of a row."""
        if not isinstance(error, Exception):
            error = AssertionError(str(error)).with_traceback(error.__traceback__)
        error.add_note(f"row: {name}")
        self._found.append((name, error))

    def report(self) -> None:
        """Fail if a row did."""
        if len(self._found) == 1:
            raise self._found[0][1]
        if self._found:
            names = "\n".join(f"  {name}" for name, _ in self._found)
            raise ExceptionGroup(f"rows:\n{names}\n", [error for _, error in self._found])


def rows(
    names: str, table: Iterable[Any], *, ids: Iterable[str] | Callable[[Any], str] | None = None
) -> Callable[[_Test], _Test]:
    """Check all rows of a table in one test, given as to pytest's parametrize."""
    arguments = [name.strip() for name in names.split(",")]
    named = [*_named(table, ids, is_one=len(arguments) == 1)]
    assert named, f"the table of {names} is empty"

    def decorate(test: _Test) -> _Test:
        async def check_awaiting(**fixtures: object) -> None:
            failures = _Failures()
            for name, values in named:
                try:
                    await test(**fixtures, **dict(zip(arguments, values, strict=True)))
                except _FAILED as error:
                    failures.add(name, error)
            failures.report()

        def check(**fixtures: object) -> None:
            failures = _Failures()
            for name, values in named:
                try:
                    test(**fixtures, **dict(zip(arguments, values, strict=True)))
                except _FAILED as error:
                    failures.add(name, error)
            failures.report()

        wrapped = wraps(test)(check_awaiting if inspect.iscoroutinefunction(test) else check)
        signature = inspect.signature(test)
        rest = [one for name, one in signature.parameters.items() if name not in arguments]
        # pytest gives a test what its signature asks for.
        cast("Any", wrapped).__signature__ = signature.replace(parameters=rest)
        return wrapped

    return decorate


def _named(
    table: Iterable[Any], ids: Iterable[str] | Callable[[Any], str] | None, *, is_one: bool
) -> Iterator[tuple[str, Sequence[Any]]]:
    """Each row's name and values."""
    given: Iterable[str | None] = repeat(None) if ids is None or callable(ids) else ids
    for row, given_name in zip(table, given, strict=False):
        name, values = given_name, (row,) if is_one else row
        if isinstance(row, type(pytest.param())):
            assert not row.marks, "a row has no marks; use pytest's parametrize"
            name, values = given_name or cast("str | None", row.id), row.values
        if callable(ids):
            name = name or ", ".join(map(ids, values))
        name = name or ", ".join(map(repr, values))
        yield (name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"), values
