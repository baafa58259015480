"""The links of subscriptions and the certificate of signatures, at the URLs that SNS uses.

https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html
"""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smtpgate.ports import DirectoryUnavailableError

_XML: Final = "text/xml"
_NAMESPACE: Final = "http://sns.amazonaws.com/doc/2010-03-31/"
_INVALID: Final = "InvalidParameter"
_MAX_PARAMETER: Final = 600


class Links(Protocol):
    """Obeys the links of subscriptions. Raises DirectoryUnavailableError."""

    async def confirm(self, topic_arn: str, token: str, address: str) -> tuple[str | None, str]:
        """Confirm a subscription of a topic; its ARN, or why not."""

    async def unsubscribe(self, subscription_arn: str, address: str) -> str | None:
        """End a subscription; why not, or ``None``."""


@dataclass(frozen=True, slots=True)
class SnsPages:
    """The links, and the certificate with its name."""

    links: Links
    certificate_name: str
    certificate_pem: bytes

    def routes(self) -> list[Route]:
        """The routes to serve."""
        return [
            Route("/", self._obey, methods=["GET"]),
            Route(f"/{self.certificate_name}", self._show_certificate, methods=["GET"]),
        ]

    async def _show_certificate(self, _request: Request) -> Response:
        return Response(self.certificate_pem, media_type="application/x-pem-file")

    async def _obey(self, request: Request) -> Response:
        obeyed = _ACTIONS.get(request.query_params.get("Action", ""))
        if obeyed is None:
            return Response(status_code=404)
        try:
            return await obeyed(self.links, request)
        except DirectoryUnavailableError:
            return _refusal(503, "ServiceUnavailable", "try again later")


async def _confirm(links: Links, request: Request) -> Response:
    topic, token = _parameter(request, "TopicArn"), _parameter(request, "Token")
    arn, problem = await links.confirm(topic, token, _address(request))
    if arn is None:
        return _refusal(400, _INVALID, problem)
    result = f"<SubscriptionArn>{escape(arn)}</SubscriptionArn>"
    return _answer("ConfirmSubscription", result)


async def _unsubscribe(links: Links, request: Request) -> Response:
    arn = _parameter(request, "SubscriptionArn")
    problem = await links.unsubscribe(arn, _address(request))
    if problem is not None:
        return _refusal(400, _INVALID, problem)
    return _answer("Unsubscribe", "")


_ACTIONS: Final[dict[str, Callable[[Links, Request], Awaitable[Response]]]] = {
    "ConfirmSubscription": _confirm,
    "Unsubscribe": _unsubscribe,
}


def _parameter(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:_MAX_PARAMETER]


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _answer(action: str, result: str) -> Response:
    inner = f"<{action}Result>{result}</{action}Result>" if result else ""
    text = (
        f'<{action}Response xmlns="{_NAMESPACE}">{inner}'
        f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )
    return Response(text, media_type=_XML)


def _refusal(status: int, code: str, message: str) -> Response:
    text = (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return Response(text, status_code=status, media_type=_XML)
