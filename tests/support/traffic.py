"""Mail that is followed to its end: clients note each reply, the next hop notes each id."""

import asyncio
import re
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session

from smtpgate.core.limits import Subject
from smtpgate.demo.sink import Sink
from tests.support.dialog import Dialog
from tests.support.gate import ACCOUNTS, BOUNCES_TO, LOGIN, GatePlan, letter
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, OWNER

REFUSED_EVERY: Final = 10
SUBJECTS: Final = (
    Subject(DELEGATE),
    Subject(DELEGATE, "user", "mailer"),
    Subject(DELEGATE, "access-key", LOGIN.username),
    Subject(DELEGATE, "identity", IDENTITY),
)
_ID: Final = re.compile(r"(?:Ok |; )(0100[0-9a-f-]+)")
_NAME: Final = re.compile(rb"Message-ID: <([^@]+)@")
_RECEIVED_ID: Final = re.compile(rb"\sid (0100[0-9a-f-]+);?\s")


class Judge(Sink):
    """Takes nine messages of ten, and keeps only what the sender and the gate call them."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[str, str] = {}
        self._received = 0

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self._received += 1
        if self._received % REFUSED_EVERY == 0:
            return "554 5.7.1 not today"
        content = envelope.original_content or b""
        name, its_id = _NAME.search(content), _RECEIVED_ID.search(content)
        assert name is not None
        assert its_id is not None
        self.accepted[name[1].decode()] = its_id[1].decode()
        return "250 2.0.0 taken"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message whose final dot was sent; without a reply the gate was killed before it."""

    name: str
    recipients: int
    began: datetime
    ended: datetime
    code: str = ""
    id: str = ""


class Client:
    """Sends message after message; its number of recipients tells it from the others.

    ``may_be_deferred`` says that stores may be away: then a 4yz is as good as any reply.
    """

    def __init__(
        self,
        plan: GatePlan,
        recipients: int,
        context: ssl.SSLContext,
        *,
        may_be_deferred: bool = False,
    ) -> None:
        self.sent: list[Submitted] = []
        self._may_be_deferred = may_be_deferred
        self._port = plan.submissions_port
        self._recipients = recipients
        self._context = context

    async def send_on(self) -> None:
        """For ever; a gate that is away is waited for."""
        while True:
            with suppress(OSError, EOFError, asyncio.TimeoutError):
                await self._session()
            await asyncio.sleep(0.05)

    async def _session(self) -> None:
        dialog = await Dialog.open(self._port, self._context)
        try:
            await self._expect(dialog, "220")
            for line in ("EHLO client.example", f"AUTH PLAIN {_plain()}"):
                await dialog.send(line.encode() + b"\r\n")
                await self._expect(dialog, "2")
            while True:
                await self._submit(dialog)
        finally:
            await dialog.close()

    async def _expect(self, dialog: Dialog, code: str) -> str:
        reply = await dialog.reply()
        if not reply or (self._may_be_deferred and reply[:1] == "4"):
            raise EOFError  # another session, after a while
        assert reply.startswith(code), reply
        return reply

    async def _submit(self, dialog: Dialog) -> None:
        commands = [
            f"MAIL FROM:<{BOUNCES_TO}>",
            *(f"RCPT TO:<bob{one}@example.net>" for one in range(self._recipients)),
            "DATA",
        ]
        await dialog.send("".join(f"{command}\r\n" for command in commands).encode())
        for _ in commands[1:]:
            await self._expect(dialog, "250")
        await self._expect(dialog, "354")
        name, began = f"m{self._recipients}-{len(self.sent)}", datetime.now(UTC)
        code = said = ""
        try:
            await dialog.send(letter(name, "Hello.\r\n") + b".\r\n")
            said = await dialog.reply()
            code = said[:3]
        finally:
            found = _ID.search(said)
            its_id = found[1] if found else ""
            ended = datetime.now(UTC)
            self.sent.append(Submitted(name, self._recipients, began, ended, code, its_id))
        if not said:
            raise EOFError
        is_deferred = self._may_be_deferred and code[:1] == "4"
        assert code in ("250", "554") or is_deferred, said


def _plain() -> str:
    return b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()


def with_limits_of_all_kinds() -> str:
    """The accounts, each limit within the delegate's counted too; none is ever reached."""
    text, many = ACCOUNTS, "max_24h_send = 1000000000\n"
    for line, more in (
        ("max_24h_send = 100000\n", ""),
        (f"[accounts.{DELEGATE}]\n", many),
        (f"[accounts.{DELEGATE}.users.mailer]\n", many),
        (f"[[accounts.{DELEGATE}.users.mailer.access_keys]]\n", many),
        (f'[accounts.{OWNER}.identities."{DOMAIN_NAME}"]\n', f"caps.{DELEGATE}.{many}"),
    ):
        assert line in text
        text = text.replace(line, f"{line}{more}" if more else "")
    return text
