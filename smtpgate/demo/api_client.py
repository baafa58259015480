"""A client of the API, with the standard library alone; it signs as AWS's clients do."""

import hashlib
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from smtpgate.core.api.sigv4 import Claim, SignedRequest, authorization
from smtpgate.core.secret import Secret

_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
_SIGNED: Final = ("content-type", "host", "x-amz-date")
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """The status of an answer, and the call with it."""

    status: int
    dialogue: str


def call(
    port: int,
    parameters: Mapping[str, str],
    *,
    ca_file: Path,
    access_key_id: str,
    secret: Secret,
    now: datetime,
) -> ApiAnswer:
    """Call an operation of version 1 of SES's API."""
    form = {**parameters, "Version": "2010-12-01"}
    body = urlencode(form).encode()
    headers = {
        "content-type": _FORM,
        "host": f"127.0.0.1:{port}",
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    }
    request = SignedRequest(
        "POST",
        b"/",
        b"",
        tuple((name.encode(), value.encode()) for name, value in headers.items()),
        hashlib.sha256(body).hexdigest(),
    )
    at = now.replace(microsecond=0)
    claim = Claim(
        access_key_id, at, "us-east-1", "ses", _SIGNED, "", timedelta(0), in_query=False
    ).signed(request, secret)
    context = ssl.create_default_context(cafile=str(ca_file))
    context.check_hostname = False  # the certificate is for gate.example, the port is local
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    try:
        headers["authorization"] = authorization(claim)
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        lines = [f"C: {name}={_cut(value)}" for name, value in parameters.items()]
        lines += [f"S: {response.status} {line}" for line in _lines(response.read().decode())]
        return ApiAnswer(response.status, "\n".join(lines))
    finally:
        connection.close()


def _cut(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _lines(document: str) -> list[str]:
    return document.replace("><", ">\n<").splitlines()
