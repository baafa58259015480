"""The API as an ASGI application: a request in, a call, an answer in AWS's form out.

Version 2 of SES's API is below ``/v2/``; everything else is the Query protocol: version 1, and
the operations of STS, IAM and SNS that clients of SES need. The service is that of the
signature, as at AWS, whatever host the client believes it talks to.
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from smtpgate.admin.errors import ADMIN_ERRORS
from smtpgate.admin.journal import JOURNAL_ERRORS
from smtpgate.api.authentication import Authentication, RefusedKeyError
from smtpgate.api.bodies import Bodies, ClientLeftError
from smtpgate.api.bounds import CallBounds
from smtpgate.api.call import ApiParts, Call, Values
from smtpgate.api.doubts import attempt_of
from smtpgate.api.names import api_error
from smtpgate.api.operations import HANDLERS, SENDS
from smtpgate.api.served import services
from smtpgate.core.account import AccessKey
from smtpgate.core.api.constraints import violation_text, violations
from smtpgate.core.api.faults import LATER, OF_SIGNATURES, ApiError, RefusedByReplyError, row_of
from smtpgate.core.api.model import Operation, Service
from smtpgate.core.api.percent import query_pairs
from smtpgate.core.api.query import (
    MAX_PARAMETERS,
    QueryError,
    query_error,
    query_input,
    query_output,
    read_query,
)
from smtpgate.core.api.rest import RestError, rest_input, rest_operation, rest_output
from smtpgate.core.api.sigv4 import SignatureError, SignedRequest
from smtpgate.core.events import ApiCalled, Authenticated, AuthFailed, AuthReason
from smtpgate.core.message.envelope import Client
from smtpgate.ports import DirectoryUnavailableError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_REST_PREFIX: Final = b"/v2/"
_JSON: Final = b"application/json"
_XML: Final = b"text/xml"
_LATER: Final = "The service is not available, try again later."
_INTERNAL: Final = "The request processing has failed because of an internal error."
_INVOCATION: Final = b"amz-sdk-invocation-id"
_SHOWN_KEY_ID: Final = 128


@dataclass(slots=True, kw_only=True)
class _Request:
    """A request on its way to an answer."""

    id: str
    client: Client
    http: SignedRequest  # without the digest of its body, until that was read
    is_rest: bool  # of version 2
    service: str
    operation: str = ""

    def header(self, name: bytes) -> bytes:
        """The value of the first header field of that name; empty if there is none."""
        return next(iter(self.http.values(name)), b"")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: bytes
    body: bytes
    fault: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Api:
    """Answers calls; one for each ``[api.NAME]``."""

    def __init__(
        self, name: str, parts: ApiParts, bounds: CallBounds, bodies: Bodies, *, is_tls: bool
    ) -> None:
        self._name = name
        self._parts = parts
        self._bounds = bounds
        self._bodies = bodies
        self._is_tls = is_tls
        region = parts.config.gate.region
        self._authentication = Authentication(parts.directory, region, parts.clock)
        _ = services()  # read now, not while a client waits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = self._request(scope)
        started = self._parts.clock.monotonic()
        try:
            answer = await self._answered(request, receive)
        except ApiError as error:
            answer = _refusal(request, error)
        except ClientLeftError:
            return
        except Exception as error:  # noqa: BLE001 - for the log; the client learns nothing of it
            self._parts.on_error(error)
            answer = _refusal(request, ApiError("internal", _INTERNAL))
        await _sent(send, request, answer)
        if not request.client.access_key_id:
            return  # anyone can cause these; the log has failed logins
        self._parts.events.publish(
            ApiCalled(
                client=request.client,
                at=self._parts.clock.now(),
                request_id=request.id,
                service=request.service,
                operation=request.operation,
                status=answer.status,
                fault=answer.fault,
                seconds=self._parts.clock.monotonic() - started,
            )
        )

    def _request(self, scope: Scope) -> _Request:
        address, port = scope.get("client") or ("", 0)
        path: bytes = scope["raw_path"]
        is_rest = path.startswith(_REST_PREFIX)
        return _Request(
            id=self._parts.new_request_id(),
            client=Client(
                address=address,
                port=port,
                listener=self._name,
                protocol="HTTPS" if self._is_tls else "HTTP",
                is_tls=self._is_tls,
            ),
            http=SignedRequest(
                scope["method"], path, scope["query_string"], tuple(scope["headers"]), ""
            ),
            is_rest=is_rest,
            service="sesv2" if is_rest else "ses",
        )

    async def _answered(self, request: _Request, receive: Receive) -> _Answer:
        """The answer to a request: its signature, its operation, its values, its result."""
        try:
            claim, request.service = self._authentication.claim(
                request.http, is_rest=request.is_rest
            )
            self._bounds.must_have_failures(request.client, claim.access_key_id)
            claimed = await self._authentication.claimed_key(claim, request.client.address)
        except SignatureError as error:
            raise self._not_authenticated(request, "", error) from None
        except DirectoryUnavailableError:
            raise ApiError("unavailable", _LATER) from None
        length = request.header(b"content-length")
        body = await self._bodies.read(receive, length, is_trusted=claimed.is_usable)
        try:
            request.http = request.http.with_body(body)
            try:
                key = self._authentication.must_be_signed(request.http, claim, claimed)
            except SignatureError as error:
                raise self._not_authenticated(request, claim.access_key_id, error) from None
            self._bounds.note_success(request.client, key.id)
            account_id = key.principal.account.id
            request.client = request.client.logged_in(key.id, account_id)
            self._parts.events.publish(Authenticated(request.client, self._parts.clock.now()))
            return await self._carried(request, key, body)
        finally:
            self._bodies.release(body)

    def _not_authenticated(
        self, request: _Request, claimed: str, error: SignatureError
    ) -> ApiError:
        at, shown = self._parts.clock.now(), claimed[:_SHOWN_KEY_ID]
        if error.fault != "missing":
            if not claimed:  # else it was looked at before
                self._bounds.must_have_failures(request.client, claimed)
            is_unknown = error.fault == "unknown-key"
            self._bounds.count_failure(request.client, claimed, is_unknown=is_unknown)
            reason: AuthReason = "invalid-credentials"
            if isinstance(error, RefusedKeyError):
                reason = error.refusal
            self._parts.events.publish(AuthFailed(request.client, at, shown, reason))
        return ApiError(OF_SIGNATURES[error.fault], str(error))

    async def _carried(self, request: _Request, key: AccessKey, body: bytes) -> _Answer:
        service = services()[request.service]
        operation, values = _read(service, request, body)
        request.operation = operation.name
        if operation.name not in SENDS:
            self._bounds.count_call(request.client)
            return await self._called(request, key, service, operation, values)
        admission, account_id = self._parts.admission, request.client.account_id
        if not admission.has_refusals_left(account_id):
            raise self._bounds.exhausted("refusals", request.client)
        try:
            return await self._called(request, key, service, operation, values)
        except RefusedByReplyError:
            raise  # the pipeline has counted it
        except ApiError as error:
            if error.fault not in LATER:
                admission.note_refusal(account_id)
            raise

    async def _called(
        self,
        request: _Request,
        key: AccessKey,
        service: Service,
        operation: Operation,
        values: Values,
    ) -> _Answer:
        if operation.input and (found := violations(service, operation.input, values)):
            raise ApiError("validation", violation_text(found))
        handler = HANDLERS[service.name].get(operation.name)
        if handler is None:
            raise _not_served(operation.name)
        call = Call(
            parts=self._parts,
            bounds=self._bounds,
            service=service.name,
            operation=operation.name,
            values=values,
            key=key,
            client=request.client,
            request_id=request.id,
            at=self._parts.clock.now(),
            attempt=_attempt(request) if operation.name in SENDS else "",
        )
        try:
            result = await handler(call)
        except (*ADMIN_ERRORS, *JOURNAL_ERRORS) as error:
            raise api_error(error) from error
        if request.is_rest:
            return _Answer(200, _JSON, rest_output(service, operation, result))
        return _Answer(200, _XML, query_output(service, operation, result, request.id).encode())


def _attempt(request: _Request) -> str:
    invocation, digest = request.header(_INVOCATION), request.http.body_sha256
    return attempt_of(request.client.account_id, invocation, digest)


# -- in ----------------------------------------------------------------------------------------


def _read(service: Service, request: _Request, body: bytes) -> tuple[Operation, Values]:
    """The operation that a request names, and its values. Raises ApiError."""
    if request.is_rest:
        return _read_rest(service, request, body)
    return _read_query(service, request, body)


def _read_rest(service: Service, request: _Request, body: bytes) -> tuple[Operation, Values]:
    try:
        found = rest_operation(service, request.http.method, request.http.path)
        if found is None:
            path = request.http.path[:200].decode("ascii", "replace")
            raise _not_served(f"{request.http.method} {path}")
        operation, labels = found
        pairs = query_pairs(request.http.query)
        return operation, rest_input(service, operation, labels, pairs, body)
    except RestError as error:
        raise ApiError("malformed-input", str(error)) from None


def _read_query(service: Service, request: _Request, body: bytes) -> tuple[Operation, Values]:
    try:
        query = read_query(
            [*_form_pairs(request.http.query, plus=False), *_form_pairs(body, plus=True)]
        )
        operation = service.operations.get(query.action)
        if operation is None:
            if query.action in service.refused:
                raise _not_served(query.action)
            text = f"Could not find operation {query.action[:100]}"
            raise ApiError("unknown-action", text)
        if query.version and query.version != service.version:
            text = f"{service.name} has version {service.version}, not {query.version[:100]}."
            raise ApiError("unknown-action", text)
        return operation, query_input(service, operation, query)
    except QueryError as error:
        raise ApiError(_OF_QUERIES[error.code], str(error)) from None


_OF_QUERIES: Final[Mapping[str, str]] = {
    "MalformedQueryString": "malformed-query",
    "MalformedInput": "malformed-input",
    "MissingAction": "no-action",
}


def _form_pairs(octets: bytes, *, plus: bool) -> Iterator[tuple[str, str]]:
    """The names and values of a form; in a body a plus sign is a space."""
    if octets.count(b"&") > MAX_PARAMETERS:
        raise QueryError("MalformedQueryString", f"More than {MAX_PARAMETERS} parameters.")
    text = octets.replace(b"+", b" ") if plus else octets
    for name, value in query_pairs(text):
        if name.startswith(b"X-Amz-"):
            continue  # of a signature in the query
        try:
            yield name.decode(), value.decode()
        except UnicodeDecodeError:
            raise QueryError("MalformedQueryString", "The parameters must be UTF-8.") from None


def _not_served(name: str) -> ApiError:
    return ApiError("not-served", f"smtpgate does not serve the operation {name}.")


# -- out ---------------------------------------------------------------------------------------


def _refusal(request: _Request, error: ApiError) -> _Answer:
    row, text = row_of(error.fault, request.service), str(error)
    if request.is_rest:
        body = json.dumps({"message": text}).encode()
        headers = ((b"x-amzn-errortype", row.v2.encode()),)
        return _Answer(row.v2_status, _JSON, body, row.v2, headers)
    namespace = services()[request.service].namespace
    document = query_error(namespace, row.v1, text, row.v1_status, request.id)
    return _Answer(row.v1_status, _XML, document.encode(), row.v1)


async def _sent(send: Send, request: _Request, answer: _Answer) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-amzn-requestid", request.id.encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
