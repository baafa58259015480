"""Calls of webhooks that go nowhere, and are kept."""

from smtpgate.core.secret import Secret
from smtpgate.webhooks.client import CallError, Headers, HttpAnswer


class Calls:
    """Notes the calls, and answers them without a network."""

    def __init__(self, *answers: HttpAnswer | CallError) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, str], bytes, Secret | None]] = []

    async def post(
        self, url: str, headers: Headers, body: bytes, credentials: Secret | None = None
    ) -> HttpAnswer:
        """Note a call."""
        self.calls.append((url, dict(headers), body, credentials))
        answer = self.answers.pop(0) if self.answers else HttpAnswer(200, None, "")
        if isinstance(answer, CallError):
            raise answer
        return answer
