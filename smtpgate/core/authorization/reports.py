"""Reports of a relay: bounces that a mail server in front of the gate sends by itself.

Such a message has a null reverse-path and is from MAILER-DAEMON or postmaster at the server's
own name, for which nobody verified an identity. It passes when each of its recipients is an
address that the sender might use as From: then it reaches nobody but the authors of the
sender's own mail. What it says is not vouched for: it is never signed for the domain of From.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from smtpgate.core.address import Mailbox
from smtpgate.core.authorization.context import author_context
from smtpgate.core.authorization.roles import (
    Authorization,
    Denial,
    Known,
    Question,
    authorize,
    more_specific,
)
from smtpgate.core.events import UsedIdentity
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.message.reading import ReadMessage
from smtpgate.core.policy import Caller, Context, Decision, Determining, Outcome, Request, Side
from smtpgate.core.policy.access import Access, Clause, possible_access

# A mail server reports to the author of one message, and maybe to its own postmaster.
_MAX_RECIPIENTS: Final = 10
_LOCAL_PARTS: Final = frozenset({"mailer-daemon", "postmaster"})
_REPORT: Final = re.compile(rb"multipart/report[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)
# OpenSMTPD's bounces are of this type, and have the part of a report.
_MIXED: Final = re.compile(
    rb"multipart/mixed[ \t]*;[ \t]*boundary=(?:\"([^\"]{1,200})\"|([^\"; \t]{1,70}))[ \t]*",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(
    rb"(?:^|\r\n)content-type[ \t]*:[ \t]*message/delivery-status[ \t]*(?:;|\r\n)",
    re.IGNORECASE,
)
_LOOKED_AT: Final = 64 * 1024
_UNKNOWN: Final = ("ses:recipients", "ses:feedbackaddress", "ses:fromdisplayname")


def report_recipients(
    message: ReadMessage, reverse_path: Mailbox | None, recipients: Sequence[Mailbox]
) -> tuple[Mailbox, ...]:
    """The recipients of a message that has the form of a relay's report, or none."""
    if reverse_path is not None or not 0 < len(recipients) <= _MAX_RECIPIENTS:
        return ()
    if len(message.shown) != 1 or not _is_server(message.authors[0]):
        return ()
    field = message.block.first(b"content-type")
    if field is None or not (
        _REPORT.fullmatch(field.value) or _has_status(field.value, message.body)
    ):
        return ()
    return tuple(dict.fromkeys(recipients))


def _is_server(author: Author) -> bool:
    return author.mailbox.local_part.lower() in _LOCAL_PARTS


def _has_status(content_type: bytes, body: bytes | memoryview) -> bool:
    """True if a multipart/mixed has a part of type message/delivery-status (RFC 3464 §2)."""
    match = _MIXED.fullmatch(content_type)
    if match is None:
        return False
    delimiter = b"--" + (match[1] or match[2]) + b"\r\n"
    parts = bytes(body[:_LOOKED_AT]).split(delimiter)[1:]
    return any(_STATUS.search(part.partition(b"\r\n\r\n")[0] + b"\r\n") for part in parts)


def report_names(recipients: Sequence[Mailbox], hostname: str) -> set[str]:
    """The names of the identities that can matter to a report, its signer's among them."""
    names = {name for mailbox in recipients for name in names_covering(mailbox)}
    return names.union(_domains_of(hostname)) if recipients else names


def _domains_of(hostname: str) -> list[str]:
    found = names_covering(Mailbox("postmaster", hostname.lower()))
    return [name for name in found if "@" not in name]


def authorize_message(
    question: Question, report: Sequence[Mailbox], hostname: str
) -> Authorization:
    """Decide about a message, which is a report to those recipients unless there are none.

    ``known`` of the question has the identities of :func:`report_names` too. Raises Denial.
    """
    try:
        return authorize(question)
    except Denial as denial:
        if denial.decision is not None and denial.decision.outcome is Outcome.EXPLICIT_DENY:
            raise  # what its owner says of From itself is final
        found = _report(question, report, hostname) if report else None
        if found is None:
            raise
        return found


def _report(
    question: Question, recipients: Sequence[Mailbox], hostname: str
) -> Authorization | None:
    """The authorization of a report; ``None`` when a recipient is no possible From."""
    used: list[UsedIdentity] = []
    concerned: dict[object, Identity] = {}
    accesses: list[Access] = []
    for mailbox in recipients:
        found = next(_possible(question, mailbox), None)
        if found is None:
            return None
        identity, access = found
        used.append(
            UsedIdentity("report", mailbox, str(identity.arn), _how(question, identity))
        )
        accesses.append(access)
        for one in (identity, *more_specific(question.known, identity, mailbox)):
            concerned[one.arn] = one
    signer = _signer(question.known, hostname, question.authors[0].mailbox)
    return Authorization(
        tuple(used),
        _decision(accesses[0]),
        signer,
        tuple(concerned.values()),
        may_be_unsigned=True,
    )


def _possible(question: Question, mailbox: Mailbox) -> Iterator[tuple[Identity, Access]]:
    """The identities with which the sender might use the mailbox as From, its own first."""
    own = question.principal.account.id
    identities = [
        identity
        for name in names_covering(mailbox)
        if covers(name, mailbox)
        for identity in question.known.get(name, ())
        if identity.is_verified
    ]
    for identity in sorted(identities, key=lambda one: one.owner_id != own):
        specific = tuple(more_specific(question.known, identity, mailbox))
        if any(one.paused_reason is not None for one in (identity, *specific)):
            continue
        access = _access(question, identity, specific, mailbox)
        if access is not None:
            yield identity, access


def _access(
    question: Question, identity: Identity, specific: Sequence[Identity], mailbox: Mailbox
) -> Access | None:
    principal = question.principal
    context = author_context(_as_of_any(question.context), Author(None, mailbox))
    return possible_access(
        Request(
            Caller(principal.account.id, principal.arn, principal.is_root),
            question.action,
            str(identity.arn),
            {**context, "aws:resourceaccount": (identity.owner_id,)},
        ),
        identity_policies=identity.policies,
        user_policies=principal.policies,
        more_specific=[(str(other.arn), other.policies) for other in specific],
    )


def _as_of_any(context: Context) -> dict[str, tuple[str, ...]]:
    """What is known of other mail that the sender could send now by this connection."""
    return {key: values for key, values in context.items() if key not in _UNKNOWN}


def _how(question: Question, identity: Identity) -> Literal["own", "inferred"]:
    return "own" if identity.owner_id == question.principal.account.id else "inferred"


def _decision(access: Access) -> Decision:
    """That the first recipient could be From, as a decision."""
    user, identity = _cited(access.user), _cited(access.identity)
    return Decision(
        Outcome.ALLOW,
        (*user, *identity),
        Side("user", Outcome.ALLOW, bool(user), user),
        Side("identity", Outcome.ALLOW, bool(identity), identity),
    )


def _cited(clauses: Sequence[Clause]) -> tuple[Determining, ...]:
    return tuple(clause.statement for clause in clauses)


def _signer(known: Known, hostname: str, author: Mailbox) -> Identity | None:
    """The gate's own domain when it has a key, and says nothing about the domain of From."""
    for name in _domains_of(hostname):
        for identity in known.get(name, ()):
            if identity.is_verified and identity.dkim_keys:
                return None if _is_aligned(name, author.domain) else identity
    return None


def _is_aligned(one: str, other: str) -> bool:
    """True if DMARC could take a signature of one domain for the other's (RFC 7489 §3.1.1)."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
