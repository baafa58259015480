"""The pages: metrics, health, readiness, and those of subscriptions and of feedback."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from smtpgate.http.feedback import FeedbackPage
from smtpgate.http.subscriptions import SnsPages
from smtpgate.tasks import Threads

# https://prometheus.io/docs/instrumenting/exposition_formats/
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


def pages(
    *,
    metrics: Callable[[], bytes],
    is_ready: Callable[[], tuple[bool, Mapping[str, str]]],
    refresh: Callable[[], Awaitable[None]] | None = None,
    sns: SnsPages | None = None,
    feedback: FeedbackPage | None = None,
) -> Starlette:
    """The application that serves the pages; ``refresh`` comes before each scrape."""

    threads = Threads("metrics")

    async def show_metrics(_request: Request) -> Response:
        if refresh is not None:
            await refresh()
        # A thousand series take tens of milliseconds, too long for the event loop.
        return Response(await threads.run(metrics), media_type=_METRICS)

    async def show_health(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def show_readiness(_request: Request) -> Response:
        ready, checks = is_ready()
        content = {"ready": ready, "checks": dict(checks)}
        return JSONResponse(content, status_code=200 if ready else 503)

    application = Starlette(
        routes=[
            Route("/metrics", show_metrics, methods=["GET"]),
            Route("/healthz", show_health, methods=["GET"]),
            Route("/readyz", show_readiness, methods=["GET"]),
            *(() if sns is None else sns.routes()),
            *(() if feedback is None else (feedback.route(),)),
        ]
    )
    application.router.redirect_slashes = False
    return application
