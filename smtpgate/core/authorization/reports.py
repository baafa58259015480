"""Reports of a relay: bounces that a mail server in front of the gate sends by itself.

Such a message has a null reverse-path and is from MAILER-DAEMON or postmaster at the server's
own name, for which no account verified an identity. It is allowed if each of its recipients is
an address that the sender could use in From: then it reaches only the authors of the sender's
own mail. It is never signed for the domain of From.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from smtpgate.core.address import Mailbox
from smtpgate.core.authorization.possible import access_as, identities_covering
from smtpgate.core.authorization.roles import (
    Authorization,
    AuthorizationRequest,
    Denial,
    Known,
    all_covering,
    authorize,
    more_specific,
    paused_delegate,
    paused_identity,
)
from smtpgate.core.events import UsedIdentity
from smtpgate.core.identity import Identity, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.message.body import Body, beginning_of
from smtpgate.core.message.reading import ReadMessage
from smtpgate.core.policy import Context, Decision, Determining, Side
from smtpgate.core.policy.access import Access, Clause

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
    """The recipients of a message that has the form of a relay's report, else none."""
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


def _has_status(content_type: bytes, body: Body) -> bool:
    """True if a multipart/mixed has a part of type message/delivery-status (RFC 3464 §2)."""
    match = _MIXED.fullmatch(content_type)
    if match is None:
        return False
    delimiter = b"--" + (match[1] or match[2]) + b"\r\n"
    parts = beginning_of(body, _LOOKED_AT).split(delimiter)[1:]
    return any(_STATUS.search(part.partition(b"\r\n\r\n")[0] + b"\r\n") for part in parts)


def report_names(recipients: Sequence[Mailbox], hostname: str) -> set[str]:
    """The names of the identities that can matter to a report, its signer's among them."""
    names = {name for mailbox in recipients for name in names_covering(mailbox)}
    return names.union(gate_domains(hostname))


def gate_domains(hostname: str) -> list[str]:
    """The domains that could sign for the gate itself: its own name and those above it."""
    found = names_covering(Mailbox("postmaster", hostname.lower()))
    return [name for name in found if "@" not in name]


def authorize_message(
    request: AuthorizationRequest, report: Sequence[Mailbox], hostname: str
) -> Authorization:
    """Decide about a message, which is a report to those recipients unless there are none.

    ``known`` of the request has the identities of :func:`report_names` too. Raises Denial.
    """
    try:
        return authorize(request)
    except Denial as denial:
        if denial.decision is not None and denial.decision.outcome == "explicit-deny":
            raise  # a Deny of the owner of the From identity is final
        found = _report(request, report, hostname) if report else None
        if found is None:
            raise
        return found


def _report(
    request: AuthorizationRequest, recipients: Sequence[Mailbox], hostname: str
) -> Authorization | None:
    """The authorization of a report; ``None`` if a recipient is not a possible From."""
    used: list[UsedIdentity] = []
    concerned: dict[object, Identity] = {}
    accesses: list[Access] = []
    for mailbox in recipients:
        found = next(_possible(request, mailbox), None)
        if found is None:
            return None
        identity, access = found
        used.append(UsedIdentity("report", mailbox, identity.arn.text, _how(request, identity)))
        accesses.append(access)
        for one in (identity, *more_specific(identity, all_covering(request.known, mailbox))):
            concerned[one.arn] = one
    signer = _signer(request.known, hostname, request.authors[0].mailbox)
    return Authorization(
        tuple(used),
        _decision(accesses[0]),
        signer,
        tuple(concerned.values()),
        may_be_unsigned=True,
    )


def _possible(
    request: AuthorizationRequest, mailbox: Mailbox
) -> Iterator[tuple[Identity, Access]]:
    """The identities with which the sender could use the mailbox in From, its own first."""
    author, own = Author(None, mailbox), request.principal.account.id
    identities = identities_covering(author, request.known)
    for identity in sorted(identities, key=lambda one: one.owner_id != own):
        covering = all_covering(request.known, mailbox)
        if paused_identity(identity.owner_id, covering) is not None:
            continue
        if paused_delegate(own, identity.owner_id, covering) is not None:
            continue
        access = access_as(
            author,
            identity,
            request.principal,
            request.known,
            action=request.action,
            context=_as_of_any(request.context),
        )
        if access is not None:
            yield identity, access


def _as_of_any(context: Context) -> dict[str, tuple[str, ...]]:
    """The context of any message that the sender could submit now on this connection."""
    return {key: values for key, values in context.items() if key not in _UNKNOWN}


def _how(request: AuthorizationRequest, identity: Identity) -> Literal["own", "inferred"]:
    return "own" if identity.owner_id == request.principal.account.id else "inferred"


def _decision(access: Access) -> Decision:
    """The decision that the first recipient could be in From."""
    user, identity = _cited(access.user), _cited(access.identity)
    return Decision(
        "allow",
        (*user, *identity),
        Side("user", "allow", bool(user), user),
        Side("identity", "allow", bool(identity), identity),
    )


def _cited(clauses: Sequence[Clause]) -> tuple[Determining, ...]:
    return tuple(clause.statement for clause in clauses)


def gate_identity(known: Known, hostname: str) -> Identity | None:
    """The gate's own domain, or one above it, if that has a key and is not paused."""
    for name in gate_domains(hostname):
        for identity in known.get(name, ()):
            if identity.is_verified and identity.dkim_keys and identity.paused_reason is None:
                return identity
    return None


def _signer(known: Known, hostname: str, author: Mailbox) -> Identity | None:
    """The gate's own domain, unless it is aligned with From's."""
    identity = gate_identity(known, hostname)
    is_aligned = identity is not None and _is_aligned(identity.name, author.domain)
    return None if is_aligned else identity


def _is_aligned(one: str, other: str) -> bool:
    """True if DMARC could align a signature of one domain with the other (RFC 7489 §3.1.1)."""
    return one == other or one.endswith(f".{other}") or other.endswith(f".{one}")
