"""The proof of an identity on request: by the DNS, a mailed code, or an operator's word."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.admin.errors import CodeRefusedError, RefusedChangeError
from smtpgate.admin.identities import IdentityDetails, read_details
from smtpgate.admin.mail_codes import CodeMailer, confirm_code
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.retry import change_registered
from smtpgate.admin.session import Operator, Session
from smtpgate.core.proof.mail_code import MAX_ATTEMPTS
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import begin, begin_now, trusted
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import account
from smtpgate.directory.identities import codes_sent_since
from smtpgate.ports import Upstream

# An account could have the gate mail any number of strangers otherwise.
_MAX_CODES_A_DAY: Final = 100
# What each outcome of an attempt means to the person who made it.
_REFUSED: Final = {
    None: "no code is expected for this address; request one",
    "wrong": "that is not the code; {left} more attempts",
    "expired": "the code has expired; request another",
    "too-many-attempts": "there were too many wrong codes; request another",
}


async def check_domain(
    session: Session, ref: IdentityRef, checks: DnsChecks
) -> IdentityDetails:
    """Ask the DNS for a domain's record now, and begin to ask again and again if needed.

    A domain that is verified without the DNS stays as it is. Raises OvertakenError.
    """
    session.must_be_allowed("VerifyDomainIdentity", session.identity_arn(ref))
    if not ref.is_domain:
        raise RefusedChangeError(f"identity {ref} is an address, which a mailed code proves")
    now = session.now()

    async def decide(before: Registered) -> Registered:
        due = replace(before, verification=begin_now(before.verification, now))
        return await checks.after(due, now, session.chance())

    await change_registered(
        session.registered_identities("verify"), ref.account_id, ref.name, decide
    )
    return await read_details(session, ref)


async def begin_domain(session: Session, ref: IdentityRef) -> IdentityDetails:
    """Have the gate ask the DNS for a domain's record from now on, without waiting for it.

    Raises OvertakenError.
    """
    session.must_be_allowed("VerifyDomainIdentity", session.identity_arn(ref))
    now = session.now()

    async def decide(before: Registered) -> Registered:
        return replace(before, verification=begin(before.verification, now))

    await change_registered(
        session.registered_identities("verify"), ref.account_id, ref.name, decide
    )
    return await read_details(session, ref)


async def vouch(session: Session, ref: IdentityRef) -> IdentityDetails:
    """Mark an identity as verified without a proof. Raises OvertakenError."""
    session.must_be_allowed("VouchForIdentity", session.identity_arn(ref))

    async def decide(before: Registered) -> Registered:
        return replace(before, verification=trusted(session.now()), code=None)

    await change_registered(
        session.registered_identities("vouch"), ref.account_id, ref.name, decide
    )
    return await read_details(session, ref)


async def send_code(session: Session, ref: IdentityRef, upstream: Upstream) -> IdentityDetails:
    """Mail a code to an address that is not verified; it makes earlier codes worthless.

    An account may have a hundred addresses mailed a day. Raises CodeNotSentError,
    RefusedChangeError or OvertakenError.
    """
    session.must_be_allowed("VerifyAddressIdentity", session.identity_arn(ref))
    if ref.is_domain:
        raise RefusedChangeError(f"identity {ref} is a domain, which a DNS record proves")
    async with session.store.reading() as connection:
        owner = await account(connection, ref.account_id)
        day_ago = session.now() - timedelta(days=1)
        sent = await codes_sent_since(connection, ref.account_id, day_ago)
    if sent >= _MAX_CODES_A_DAY and not isinstance(session.caller, Operator):
        text = f"codes were mailed to {sent} addresses within 24 hours; try again tomorrow"
        raise RefusedChangeError(text)
    mailer = CodeMailer(
        registry=session.registered_identities("send-code"),
        upstream=upstream,
        hostname=session.config.hostname,
        now=session.now(),
    )
    await mailer.send(
        ref.account_id,
        ref.name,
        account_name=owner.name,
        asked_by=f"{session.actor.name} ({session.actor.origin})",
    )
    return await read_details(session, ref)


async def confirm(session: Session, ref: IdentityRef, code: Secret) -> IdentityDetails:
    """Prove an address with the code that was mailed to it.

    Raises CodeRefusedError or OvertakenError.
    """
    session.must_be_allowed("VerifyAddressIdentity", session.identity_arn(ref))
    registry = session.registered_identities("confirm")
    outcome, identity = await confirm_code(
        registry, ref.account_id, ref.name, code, session.now()
    )
    if outcome != "right" and not identity.verification.is_verified:
        wrong_attempts = identity.code.wrong_attempts if identity.code else 0
        text = _REFUSED[outcome].format(left=MAX_ATTEMPTS - wrong_attempts)
        raise CodeRefusedError(text, needs_another=outcome != "wrong")
    return await read_details(session, ref)
