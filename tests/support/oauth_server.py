"""An OAuth server of Authlib on loopback: it checks clients as the RFCs say, and can fail.

``faults`` are the answers of the next requests instead of proper ones: a status and a body,
CLOSE, or HOLD, which waits for :meth:`OAuthServer.release`.
"""

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request
from authlib.oauth2.rfc6749 import grants as standard
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion, JWTBearerGrant
from joserfc import jws, jwt
from joserfc.jwk import Key, import_key

Fault = tuple[int, bytes] | str
CLOSE: Final = "<close>"
HOLD: Final = "<hold>"
_ALGORITHMS: Final = ["RS256", "PS256", "ES256"]
_ASSERTION_METHOD: Final = JWTBearerClientAssertion.CLIENT_AUTH_METHOD


@dataclass
class Client(ClientMixin):  # type: ignore[misc]
    """A registered client, which proves itself by a secret, a key or nothing."""

    client_id: str
    secret: str = ""
    public_key: Any = None
    thumbprint: str = ""
    subjects: frozenset[str] = frozenset()

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope or ""

    def check_client_secret(self, secret: str) -> bool:
        return bool(self.secret) and secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        if self.secret:
            return method == "client_secret_basic"
        return method == (_ASSERTION_METHOD if self.public_key else "none")

    def check_grant_type(self, grant_type: str) -> bool:
        return True


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, uri: str, headers: dict[str, str], form: dict[str, str]) -> None:
        super().__init__("POST", uri.replace("http://", "https://"), headers=headers)
        self._form = form
        self.payload = BasicOAuth2Payload(form)

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _ClientCredentials(standard.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar[list[str]] = [
        "client_secret_basic",
        _ASSERTION_METHOD,
    ]


@dataclass
class _Refreshable:
    """A refresh token that was handed out."""

    client: Client
    scope: str = "smtp.send"

    def check_client(self, client: Client) -> bool:
        return self.client is client

    def get_scope(self) -> str:
        return self.scope


class _Refresh(standard.RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS: ClassVar[list[str]] = ["client_secret_basic", "none"]

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802 - its name
        return bool(self.server.rotates)

    def authenticate_refresh_token(self, refresh_token: str) -> _Refreshable | None:
        found: _Refreshable | None = self.server.refresh_tokens.get(refresh_token)
        return found

    def authenticate_user(self, _: object) -> str:
        return "sender@example.com"

    def revoke_old_credential(self, _: object) -> None:
        self.server.refresh_tokens.pop(self.request.form["refresh_token"])


class _Assertion(JWTBearerClientAssertion):  # type: ignore[misc]
    def __init__(self, server: "OAuthServer") -> None:
        super().__init__()
        self._server = server

    def get_audiences(self) -> list[str]:
        return [self._server.url]

    def validate_jti(self, _: object, jti: str) -> bool:
        is_new = jti not in self._server.jtis
        self._server.jtis.add(jti)
        return is_new

    def resolve_client_public_key(self, client: Client) -> Key:
        return import_key(client.public_key, "RSA")

    def process_assertion_claims(self, assertion: str, resolve_key: Key) -> object:
        header = jws.extract_compact(assertion.encode()).headers()
        self._server.headers.append(header)
        token = jwt.decode(assertion, resolve_key, algorithms=_ALGORITHMS)
        self.verify_claims(token.claims)
        return token.claims


class _ServiceAccount(JWTBearerGrant):  # type: ignore[misc]
    def get_audiences(self) -> list[str]:
        return [self.server.url]

    def resolve_issuer_client(self, issuer: str) -> Client | None:
        found: Client | None = self.server.query_client(issuer)
        return found

    def resolve_client_public_key(self, client: Client) -> Key:
        return import_key(client.public_key, "RSA")

    def authenticate_user(self, subject: str) -> str:
        return subject

    def has_granted_permission(self, client: Client, user: str) -> bool:
        return user in client.subjects


@dataclass
class OAuthServer(AuthorizationServer):  # type: ignore[misc]
    """The server; ``requests`` are the forms that it got, ``issued`` its tokens."""

    url: str = ""
    clients: dict[str, Client] = field(default_factory=dict)
    refresh_tokens: dict[str, _Refreshable] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[dict[str, str]] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)
    jtis: set[str] = field(default_factory=set)
    lifetime_s: int = 3600
    rotates: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._released = threading.Event()
        self.register_token_generator(
            "default",
            BearerTokenGenerator(
                lambda **_: f"token-{len(self.issued) + 1}",
                lambda **_: f"refresh-{len(self.issued) + 1}",
                lambda *_: self.lifetime_s,
            ),
        )
        self.register_client_auth_method(_ASSERTION_METHOD, _Assertion(self))
        for grant in (_ClientCredentials, _Refresh, _ServiceAccount):
            self.register_grant(grant)

    def add(self, client: Client, *, refresh_token: str = "") -> None:
        """Register a client."""
        self.clients[client.client_id] = client
        if refresh_token:
            self.refresh_tokens[refresh_token] = _Refreshable(client)

    def release(self) -> None:
        """Give the delayed answers."""
        self._released.set()

    def query_client(self, client_id: str) -> Client | None:
        return self.clients.get(client_id)

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        self.issued.append(token["access_token"])
        if "refresh_token" in token:
            self.refresh_tokens[token["refresh_token"]] = _Refreshable(request.client)

    def send_signal(self, *_: object, **__: object) -> None:
        pass

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: object, _: object) -> tuple[int, bytes]:
        return status, json.dumps(body).encode()

    def answer(self, headers: dict[str, str], form: dict[str, str]) -> Fault:
        """The status and the body for a request."""
        self.requests.append(form)
        fault = self.faults.popleft() if self.faults else None
        if fault == HOLD:
            self._released.wait(10)
        elif fault is not None:
            return fault
        answered: tuple[int, bytes] = self.create_token_response(
            _Request(self.url, headers, form)
        )
        return answered


@contextmanager
def oauth_server(
    tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[OAuthServer]:
    """Serve on a free port of loopback."""
    oauth = OAuthServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            answer = oauth.answer(dict(self.headers.items()), dict(parse_qsl(octets.decode())))
            if isinstance(answer, str):
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        oauth.url = f"{scheme}://{host}:{server.server_address[1]}/token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield oauth
        finally:
            oauth.release()
            server.shutdown()
            thread.join()
