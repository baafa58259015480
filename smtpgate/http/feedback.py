"""``POST /feedback``: records of a mail server about the mail that the gate sent.

A post has a credential of its own, as a bearer token (RFC 6750 §2.1) or as the password of
``feedback`` (RFC 7617). Without a valid one its body is not read. Its octets, its time and the
number of posts at once are bounded, and each answer ends its connection: a connection of this
server has half a minute, and one that is used again could end within a post.
"""

import asyncio
import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smtpgate.core.events import PostRefusal, PostRefused
from smtpgate.core.feedback.record import RecordError
from smtpgate.core.message.envelope import Client
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink, JournalUnavailableError
from smtpgate.posted import PostAnswer

USER: Final = "feedback"
_TIMEOUT_S: Final = 20.0
_REALM: Final = 'Bearer realm="smtpgate feedback", Basic realm="smtpgate feedback"'
# Problems of single records in an answer.
_SHOWN: Final = 100
_STATUS: Final[dict[PostRefusal, int]] = {
    "no-credential": 401,
    "too-slow": 408,
    "too-large": 413,
    "encoded": 415,
    "too-many": 503,
    "unavailable": 503,
    "unread": 400,
}
_AGAIN: Final[dict[PostRefusal, str]] = {"too-many": "1", "unavailable": "30"}


class TakesRecords(Protocol):
    """Takes the records of a post."""

    async def take(self, octets: bytes) -> PostAnswer:
        """Take them.

        Raises RecordError, DirectoryUnavailableError or JournalUnavailableError.
        """


class _Refused(Exception):  # noqa: N818 - an answer
    """A post that is refused as a whole."""

    def __init__(self, reason: PostRefusal, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(slots=True)
class FeedbackPage:
    """The page; ``credentials`` are the valid ones, the current one first."""

    records: TakesRecords
    credentials: Sequence[bytes]
    max_octets: int
    max_posts: int
    clock: Clock
    events: EventSink
    on_error: Callable[[BaseException], None]
    _posts: int = 0
    _is_stopping: bool = False

    def stop(self) -> None:
        """Take no more posts: what keeps their events is about to end."""
        self._is_stopping = True

    def route(self) -> Route:
        """The route to serve."""
        return Route("/feedback", self._answer, methods=["POST"])

    async def _answer(self, request: Request) -> Response:
        try:
            answer = await self._take(request)
        except _Refused as refused:
            self.events.publish(
                PostRefused(_client(request), self.clock.now(), refused.reason, str(refused))
            )
            return _refusal(refused)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        status = 200 if answer.has_any or not answer.problems else 400
        return _closing(JSONResponse(_shown(answer), status_code=status))

    async def _take(self, request: Request) -> PostAnswer:
        if not self._is_valid(request.headers.getlist("authorization")):
            raise _Refused(
                "no-credential", "the credential of feedback.credential_file is needed"
            )
        if self._is_stopping:
            raise _Refused("unavailable", "the gate is stopping, try again later")
        if self._posts >= self.max_posts:
            raise _Refused("too-many", f"{self._posts} posts are being taken, try again later")
        self._posts += 1
        try:
            return await self.records.take(await self._body(request))
        except RecordError as error:
            raise _Refused("unread", f"the body {error}") from None
        except (DirectoryUnavailableError, JournalUnavailableError) as error:
            self.on_error(error)
            raise _Refused(
                "unavailable", "records cannot be kept now, try again later"
            ) from None
        finally:
            self._posts -= 1

    def _is_valid(self, fields: Sequence[str]) -> bool:
        """True for one field with a valid credential; each is compared, in constant time."""
        shown, fits = _credential(fields[0]) if len(fields) == 1 else b"", False
        for one in self.credentials:
            fits |= hmac.compare_digest(shown, one)
        return fits

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise _Refused("encoded", "the body must not have a Content-Encoding")
        declared = request.headers.get("content-length", "0")
        too_large = _Refused("too-large", f"the body is longer than {self.max_octets} octets")
        if int(declared) > self.max_octets:  # h11 has checked that it is a number
            raise too_large
        octets = bytearray()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                async for chunk in request.stream():
                    octets += chunk
                    if len(octets) > self.max_octets:
                        raise too_large
        except TimeoutError:
            raise _Refused("too-slow", f"the body took over {_TIMEOUT_S:g} seconds") from None
        return bytes(octets)


def _credential(field: str) -> bytes:
    """The secret of an Authorization field; empty, which is never valid, if it has none."""
    scheme, _, value = field.partition(" ")
    value = value.strip(" ")
    if scheme.lower() == "bearer":
        return value.encode()
    if scheme.lower() != "basic":
        return b""
    try:
        user, _, password = base64.b64decode(value, validate=True).partition(b":")
    except ValueError:  # also of a value that is not ASCII
        return b""
    return password if user == USER.encode() else b""


def _client(request: Request) -> Client:
    address, port = request.client or ("", 0)
    return Client(address=address, port=port, listener="http", protocol="HTTP")


def _shown(answer: PostAnswer) -> dict[str, object]:
    problems = [{"line": line, "problem": text} for line, text in answer.problems[:_SHOWN]]
    return {
        "accepted": answer.accepted,
        "ignored": answer.ignored,
        "unknown": answer.unknown,
        "unread": len(answer.problems),
        "problems": problems,
    }


def _refusal(refused: _Refused) -> Response:
    fields: dict[str, str] = {}
    if refused.reason == "no-credential":
        fields["WWW-Authenticate"] = _REALM
    if refused.reason in _AGAIN:
        fields["Retry-After"] = _AGAIN[refused.reason]
    status = _STATUS[refused.reason]
    return _closing(JSONResponse({"problem": str(refused)}, status_code=status, headers=fields))


def _closing(response: Response) -> Response:
    response.headers["Connection"] = "close"
    return response
