"""The access tokens for upstreams that want OAuth: the calls to their token endpoints."""

import importlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final, cast

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.gate.errors import OpenError
from smtpgate.oauth import Grant, TokenAnswer, TokenRequest, TokenSource
from smtpgate.ports import Clock, NoTokenError
from smtpgate.tasks import TaskOwner
from smtpgate.webhooks.client import CallError, CallSettings, HttpCaller

_TIMEOUT_S: Final = 10.0
OnToken = Callable[[str, str | None], None]
"""Is called with an upstream's name, and why it has no new token, or ``None`` when it has."""


def new_tokens(
    upstream: UpstreamConfig, clock: Clock, tasks: TaskOwner, on_token: OnToken | None = None
) -> TokenSource | None:
    """The tokens for an upstream with ``[upstream.NAME.oauth]``. Raises OpenError."""
    oauth = upstream.oauth
    if oauth is None:
        return None
    # The configuration refuses http:// to another machine; an identity provider may be inside.
    settings = CallSettings(
        allow_plaintext=True,
        allow_private=True,
        timeout_s=_TIMEOUT_S,
        ca_file=oauth.ca_file,
    )
    try:
        caller = HttpCaller(settings)
    except (OSError, ssl.SSLError) as error:
        raise OpenError(f"upstream.{upstream.name}.oauth.ca_file: {error}") from None
    if oauth.private_key_file is not None:
        importlib.import_module("smtpgate.oauth.assertion")  # now, and not while mail waits

    async def post(request: TokenRequest) -> TokenAnswer:
        try:
            answer = await caller.post(oauth.token_endpoint, request.headers, request.body)
        except CallError as error:
            raise NoTokenError(f"the token endpoint: {error}") from None
        return TokenAnswer(answer.status, answer.content)

    def on_trouble(problem: str | None) -> None:
        if on_token is not None:
            on_token(upstream.name, problem)

    return TokenSource(
        upstream.name,
        Grant(oauth, cast("str", upstream.username)),
        post,
        clock=clock,
        tasks=tasks,
        on_trouble=on_trouble,
    )


def unusable_secrets(upstreams: Iterable[UpstreamConfig], now: datetime) -> Iterator[str]:
    """Warnings about files of which no request for a token can be made. Reads files."""
    for upstream in upstreams:
        if upstream.oauth is not None:
            try:
                Grant(upstream.oauth, upstream.username or "").request(now.timestamp())
            except NoTokenError as error:
                yield f"upstream.{upstream.name}.oauth: {error}"
