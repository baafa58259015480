"""Calls of webhooks: those that go nowhere and are kept, and a server that receives them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypeVar

from smtpgate.core.secret import Secret
from smtpgate.webhooks.client import CallError, Headers, HttpAnswer

T = TypeVar("T")


class Calls:
    """Notes the calls, and answers them without a network."""

    def __init__(self, *answers: HttpAnswer | CallError) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, str], bytes, Secret | None]] = []

    async def post(
        self, url: str, headers: Headers, body: bytes, credentials: Secret | None = None
    ) -> HttpAnswer:
        """Note a call."""
        self.calls.append((url, dict(headers), body, credentials))
        answer = self.answers.pop(0) if self.answers else HttpAnswer(200, None, "")
        if isinstance(answer, CallError):
            raise answer
        return answer


@contextmanager
def receiving(keep: Callable[[dict[str, str], bytes], T]) -> Iterator[tuple[str, list[T]]]:
    """A server on loopback that accepts every call: its host with port, and what it keeps.

    ``keep`` makes that of the header fields and the body of a call.
    """
    calls: list[T] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(keep(dict(self.headers.items()), octets))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", calls
        finally:
            server.shutdown()
            thread.join()
