"""The HTTP listener: metrics and health checks, with Starlette on uvicorn."""

from smtpgate.http.feedback import FeedbackPage
from smtpgate.http.readiness import Readiness
from smtpgate.http.server import HttpServer
from smtpgate.http.subscriptions import SnsPages

__all__ = ["FeedbackPage", "HttpServer", "Readiness", "SnsPages"]
