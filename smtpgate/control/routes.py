"""Requests and their handlers, by name, in one process; and the answers of all processes."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from smtpgate.control.requests import ControlRequest

R = TypeVar("R", bound=ControlRequest)
Handler = Callable[[Any], AsyncGenerator[object]]

DEFECT: Final = "it failed by a defect; the gate's log has the error"
"""The problem of a request whose handler raised something else than a RefusedError."""


class RefusedError(Exception):
    """A request that is not carried out; its text is for the person behind it."""


class Routes:
    """The handlers of one process."""

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[type[ControlRequest], Handler]] = {}

    def add(self, kind: type[R], handler: Callable[[R], AsyncGenerator[object]]) -> None:
        """Have requests of that kind answered; it replaces another handler."""
        self._handlers[kind.name] = kind, handler

    def answer(self, name: str, arguments: bytes) -> AsyncGenerator[object]:
        """The values of the answer; ``arguments`` are JSON.

        Raises RefusedError for a request that is not known, or has other arguments.
        """
        if name not in self._handlers:
            raise RefusedError(f"this gate does not know the request `{name}'")
        kind, handler = self._handlers[name]
        try:
            request = msgspec.json.decode(arguments, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RefusedError(f"{name}: {error}") from None
        return handler(request)


class FromWorker(msgspec.Struct, frozen=True, gc=False):
    """A value of a worker's answer, as lists, dicts, texts and numbers; or its refusal."""

    worker: int
    value: Any = None
    problem: str | None = None


class Peers(Protocol):
    """All processes that take mail."""

    def ask(self, request: ControlRequest) -> AsyncIterator[FromWorker]:
        """Ask them all: their values as they come, until each has ended its answer.

        One that refuses, that ends meanwhile, or that is not read fast enough gives a problem.
        """


class OwnProcess:
    """The only process that takes mail is this one. Implements Peers."""

    def __init__(self, routes: Routes, on_error: Callable[[BaseException], None]) -> None:
        self._routes = routes
        self._on_error = on_error

    async def ask(self, request: ControlRequest) -> AsyncGenerator[FromWorker]:
        """Ask the handlers of this process."""
        try:
            async for value in self._routes.answer(request.name, msgspec.json.encode(request)):
                yield FromWorker(0, msgspec.to_builtins(value))
        except RefusedError as error:
            yield FromWorker(0, problem=str(error))
        except Exception as error:  # noqa: BLE001 - as a worker's: logged there
            self._on_error(error)
            yield FromWorker(0, problem=DEFECT)
