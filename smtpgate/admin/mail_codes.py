"""A code mailed to an address, which proves that its reader may send with the address."""

import os
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from smtpgate.admin.errors import CodeNotSentError
from smtpgate.admin.gate_mail import GateMailer, MailNotSentError
from smtpgate.admin.retry import change_registered
from smtpgate.core.proof.mail_code import (
    VALID,
    CodeResult,
    check_code,
    mail_code,
    new_code,
    was_just_sent,
)
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import begin_by_mail, confirmed_by_mail
from smtpgate.core.secret import Secret
from smtpgate.ports import RegisteredIdentities, Upstream

_CODE_OCTETS: Final = 12
_TEXT: Final = """\
The account {account} wants to send mail with the address
{address} through the mail gateway {hostname}.
It was requested by {asked_by}.

If that is right, give them this code, or enter it yourself:

    {code}

It is valid until {until:%Y-%m-%d %H:%M} UTC, with this command:

    smtpgate identity confirm {account_id}/{address} {code}

If you did not expect this, do nothing: without the code nobody can send as you
through this gateway. You can report it to postmaster@{hostname}.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMailer:
    """Mails codes in the name of the gate."""

    registry: RegisteredIdentities
    upstream: Upstream
    hostname: str
    now: datetime

    async def send(
        self, account_id: str, name: str, *, account_name: str, asked_by: str
    ) -> Registered:
        """Mail a new code to an address, which makes earlier codes worthless.

        A verified address gets no code. Raises CodeNotSentError or OvertakenError.
        """
        code = new_code(os.urandom(_CODE_OCTETS))
        without: Registered | None = None

        async def keep(before: Registered) -> Registered:
            nonlocal without
            without = before
            if before.verification.is_verified:
                return before
            if before.code is not None and was_just_sent(before.code.sent_at, self.now):
                raise CodeNotSentError(f"a code was sent to {name} less than a minute ago")
            return replace(
                before,
                verification=begin_by_mail(before.verification, self.now),
                code=mail_code(code, before.arn, self.now),
            )

        identity = await change_registered(self.registry, account_id, name, keep)
        if identity.verification.is_verified:
            return identity
        text = _TEXT.format(
            address=name,
            hostname=self.hostname,
            asked_by=_one_line(asked_by),
            account=f"{account_id} ({_one_line(account_name)})",
            account_id=account_id,
            code=code.value,
            until=self.now + VALID,
        )
        try:
            await self._deliver(name, text)
        except CodeNotSentError:
            if without is not None:
                await self.registry.save([(identity, without)])
            raise
        return identity

    async def _deliver(self, address: str, text: str) -> None:
        """Deliver the mail. Raises CodeNotSentError."""
        mailer = GateMailer(upstream=self.upstream, hostname=self.hostname, now=self.now)
        try:
            await mailer.send(address, f"Code for sending as {address}", text)
        except MailNotSentError as error:
            raise CodeNotSentError(str(error)) from None


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


async def confirm_code(
    registry: RegisteredIdentities, account_id: str, name: str, typed: Secret, now: datetime
) -> tuple[CodeResult | None, Registered]:
    """The outcome of an attempt with a code, or ``None`` if no code is expected.

    An attempt is saved before its outcome is returned. Raises OvertakenError.
    """
    outcome: CodeResult | None = None

    async def decide(before: Registered) -> Registered:
        nonlocal outcome
        outcome = None
        if before.code is None:
            return before
        outcome, code = check_code(before.code, typed, before.arn, now)
        if outcome != "right":
            return replace(before, code=code)
        verification = confirmed_by_mail(before.verification, now)
        return replace(before, verification=verification, code=None)

    after = await change_registered(registry, account_id, name, decide)
    return outcome, after
