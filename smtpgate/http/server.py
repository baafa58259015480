"""The server of metrics, health checks and the links of subscriptions."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from smtpgate.http.feedback import FeedbackPage
from smtpgate.http.pages import pages
from smtpgate.http.subscriptions import SnsPages
from smtpgate.webserver import WebServer

_MAX_CONNECTIONS: Final = 100
_IDLE_S: Final = 20.0
_ANSWER_S: Final = 30.0


class HttpServer(WebServer):
    """Serves metrics, health checks and the links of subscriptions on one listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        metrics: Callable[[], bytes],
        is_ready: Callable[[], tuple[bool, Mapping[str, str]]],
        refresh: Callable[[], Awaitable[None]] | None = None,
        sns: SnsPages | None = None,
        feedback: FeedbackPage | None = None,
    ) -> None:
        application = pages(
            metrics=metrics, is_ready=is_ready, refresh=refresh, sns=sns, feedback=feedback
        )
        super().__init__(
            listening,
            application,
            max_connections=_MAX_CONNECTIONS,
            idle_s=_IDLE_S,
            answer_s=_ANSWER_S,
        )
