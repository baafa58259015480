"""What is served over HTTP: metrics and health. The only door to Starlette and uvicorn."""

from smtpgate.http.readiness import Check, Readiness
from smtpgate.http.server import HttpServer

__all__ = ["Check", "HttpServer", "Readiness"]
