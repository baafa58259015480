"""The HTTP listener: metrics and health checks, with Starlette on uvicorn."""

from smtpgate.http.readiness import Check, Readiness
from smtpgate.http.server import HttpServer

__all__ = ["Check", "HttpServer", "Readiness"]
