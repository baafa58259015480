"""An issuer of tokens on loopback: it makes keys, signs JWTs, and serves its JWK Set."""

import json
import ssl
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

ISSUER: Final = "https://issuer.example.com"
AUDIENCE: Final = "smtp://gate.example"
SUBJECT: Final = "system:serviceaccount:shop:mailer"
SigningKey = RSAKey | ECKey | OKPKey


def signing_key(algorithm: str = "ES256", number: int = 1) -> SigningKey:
    """A private key for that algorithm; with another number another one."""
    return _made(algorithm, number)


@cache
def _made(algorithm: str, _number: int) -> SigningKey:
    if algorithm[:2] in ("RS", "PS"):
        return RSAKey.generate_key(2048)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519")
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    return ECKey.generate_key(curves[algorithm])


def public(key: SigningKey, key_id: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The public half of a key, as a JWK Set has it."""
    return {**key.as_dict(private=False), "kid": key_id, "use": "sig", **more}


def claims_at(now: datetime, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The claims of a proper token of that moment; ``None`` leaves one out."""
    now_s = int(now.timestamp())
    claims = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": AUDIENCE,
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + 600,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(
    payload: Mapping[str, Any] | bytes,
    *,
    key: Any = None,  # noqa: ANN401 - any key of joserfc
    algorithm: str = "ES256",
    key_id: str | None = "one",
    header: Mapping[str, Any] | None = None,
) -> str:
    """A JWT; its payload may be no JSON."""
    fields = {"alg": algorithm, "typ": "JWT", "kid": key_id, **(header or {})}
    fields = {name: value for name, value in fields.items() if value is not None}
    octets = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # of EdDSA, which RFC 9864 renames
        return jws.serialize_compact(
            fields, octets, signing_key(algorithm) if key is None else key, registry=registry
        )


@dataclass
class Issuer:
    """The server: what it answers, and how often it was asked."""

    url: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    requests: int = 0


@contextmanager
def issuer(tls: ssl.SSLContext) -> Iterator[Issuer]:
    """Serve on a free port of loopback."""
    found = Issuer(keys={"keys": [public(signing_key(), "one")]})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.requests += 1
            octets = json.dumps(found.keys).encode()
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        found.url = f"https://127.0.0.1:{server.server_address[1]}/keys"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
