"""The journal's record of a submission or of a refused login: enough to explain it later.

It has no message: of the content only the addresses, and the subject if that is configured. It
has no policies, but the text of each statement that decided, so that the explanation does not
change when the policies do.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from msgspec import Struct, structs

from smtpgate.core.address import Mailbox
from smtpgate.core.events import (
    AuthFailed,
    MailRefused,
    Stage,
    SubmissionDone,
    UsedIdentity,
    from_identity,
)
from smtpgate.core.history.options import options_of
from smtpgate.core.identity import names_covering
from smtpgate.core.limits import Charge, Subject
from smtpgate.core.made_once import made_once, made_once_with
from smtpgate.core.message.author import Author
from smtpgate.core.message.display_name import DisplayNameError, decoded
from smtpgate.core.message.envelope import Client
from smtpgate.core.message.headers import HeaderBlock
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import Decision, Side
from smtpgate.core.reply import CATALOGUE, MASKED_DETAIL, MASKED_REASON, Reply

RecordKind = Literal["submission", "mail", "login"]
RecordOutcome = Literal["relaying", "accepted", "deferred", "refused", "in-doubt"]

_MAX_TEXT: Final = 1000
_MAX_SUBJECT: Final = 200
# Octets of a subject that are read: all of one as long as the header would take too long.
_MAX_READ: Final = 1000
_MAX_CITED: Final = 20
_NO_INTENT: Final = SendingIntent()


class LimitState(Struct, frozen=True, gc=False):
    """The limits of a subject that a message was counted against; -1 is unlimited.

    ``used_24h`` is the use with this message, or ``None`` if the message was refused before the
    use was known.
    """

    subject: Subject
    used_24h: int | None
    max_24h_send: int
    max_send_rate_per_s: float


class RefusedRecipient(NamedTuple):
    """A recipient that the upstream refused, while others got the message.

    ``address`` is empty where the journal keeps no recipients.
    """

    address: str
    reply: str


class WithheldRecipient(NamedTuple):
    """A recipient that an accepted message was not sent to, and what became of it instead.

    ``address`` is empty where the journal keeps no recipients.
    """

    address: str
    outcome: str


class TriedUpstream(NamedTuple):
    """An upstream that was of no use for a message."""

    upstream: str
    cause: str
    problem: str


class Verdict(Struct, frozen=True, gc=False):
    """The part of a record that is not known when its row is begun."""

    done_at: datetime | None
    outcome: RecordOutcome
    reason: str
    detail: str
    reply: Reply | None
    is_masked: bool
    limits: tuple[LimitState, ...]
    uncounted: str
    signing_domain: str | None
    selectors: tuple[str, ...]
    upstream: str | None
    upstream_reply: Reply | None
    return_path: Mailbox | None
    stage_s: tuple[tuple[Stage, float], ...]
    refused: tuple[RefusedRecipient, ...] = ()
    withheld: tuple[WithheldRecipient, ...] = ()
    route: tuple[str, str] = ("", "")
    tried: tuple[TriedUpstream, ...] = ()

    @property
    def without_addresses(self) -> "Verdict":
        """The verdict as it is kept where the journal keeps no recipients."""
        if not self.refused and not self.withheld:
            return self
        return structs.replace(
            self,
            refused=tuple(RefusedRecipient("", one.reply) for one in self.refused),
            withheld=tuple(WithheldRecipient("", one.outcome) for one in self.withheld),
        )


class Parties(Struct, frozen=True, gc=False):
    """The sender of a message, its authors and its identities: records are found by them.

    They are the same for most messages of a sender.
    """

    identities: tuple[UsedIdentity, ...]
    account_id: str
    user_arn: str
    authors: tuple[Author, ...]
    sender: Author | None
    resent: tuple[Author, ...]
    reverse_path: Mailbox | None
    intent: SendingIntent

    @property
    def owner_ids(self) -> tuple[str, ...]:
        """The accounts whose identities were used, each once."""
        return tuple(dict.fromkeys(owner_of(used.arn) for used in self.identities))

    @property
    def mailboxes(self) -> tuple[Mailbox, ...]:
        """MAIL FROM, From, Sender and Resent-From: every address that needs an identity."""
        found = [author.mailbox for author in self.authors]
        if self.sender is not None:
            found.append(self.sender.mailbox)
        found += (author.mailbox for author in self.resent)
        if self.reverse_path is not None:
            found.append(self.reverse_path)
        return tuple(dict.fromkeys(found))

    @property
    def names(self) -> frozenset[str]:
        """The names of all identities that could matter to it."""
        names = {name for mailbox in self.mailboxes for name in names_covering(mailbox)}
        intent = self.intent
        arns = (intent.source_arn, intent.from_arn, intent.return_path_arn)
        names.update(arn.name for arn in arns if arn is not None)
        if any(used.role == "report" for used in self.identities):
            names.update(
                name for used in self.identities for name in names_covering(used.address)
            )
        return frozenset(names)

    @property
    def arns(self) -> frozenset[str]:
        """The ARNs of the identities that it used or named."""
        intent = self.intent
        named = (intent.source_arn, intent.from_arn, intent.return_path_arn)
        return frozenset(
            (
                *(used.arn for used in self.identities),
                *(str(arn) for arn in named if arn is not None),
            )
        )


_parties: Final = made_once_with(Parties)


class Beginning(Struct, frozen=True, gc=False):
    """The part of a record that is known when its row is begun.

    ``username`` is the name that a client tried to log in with, or the access key id of a
    submission. ``recipients`` is their number; ``forward_paths`` has the addresses unless the
    journal does not keep them. ``options`` are the parameters of MAIL and RCPT that the sender
    chose for its delivery (:func:`options_of`). ``tags`` and ``organization_id`` are the
    sender's at that time.
    """

    id: str
    received_at: datetime
    client: Client
    kind: RecordKind = "submission"
    account_id: str = ""
    user_arn: str = ""
    username: str = ""
    organization_id: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    reverse_path: Mailbox | None = None
    recipients: int = 0
    forward_paths: tuple[Mailbox, ...] | None = None
    options: tuple[str, ...] = ()
    octets: int = 0
    subject: str | None = None
    intent: SendingIntent = _NO_INTENT
    authors: tuple[Author, ...] = ()
    sender: Author | None = None
    resent: tuple[Author, ...] = ()
    identities: tuple[UsedIdentity, ...] = ()
    decision: Decision | None = None

    @property
    def from_identity(self) -> str:
        """The ARN of the identity that served From, or an empty text if that is not known."""
        return from_identity(self.identities)

    @property
    def parties(self) -> Parties:
        """Those that it is found by, beside its recipients."""
        return _parties(
            self.identities,
            self.account_id,
            self.user_arn,
            self.authors,
            self.sender,
            self.resent,
            self.reverse_path,
            self.intent,
        )


class Record(Beginning, frozen=True, gc=False, kw_only=True):
    """One submission with its verdict, one MAIL command or one login that was refused.

    ``outcome`` is ``relaying`` from before the relay until the verdict. ``uncounted`` says why
    the recipients were not counted. ``is_masked``: only the owner of the last identity that was
    checked may see the reason. ``route`` is the name of the route, empty if there is only one,
    and what of the message it was chosen for; ``tried`` are the upstreams of it that were of no
    use.
    """

    done_at: datetime | None = None
    outcome: RecordOutcome
    reason: str
    detail: str = ""
    reply: Reply | None = None
    is_masked: bool = False
    limits: tuple[LimitState, ...] = ()
    uncounted: str = ""
    signing_domain: str | None = None
    selectors: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_reply: Reply | None = None
    return_path: Mailbox | None = None
    stage_s: tuple[tuple[Stage, float], ...] = ()
    refused: tuple[RefusedRecipient, ...] = ()
    withheld: tuple[WithheldRecipient, ...] = ()
    route: tuple[str, str] = ("", "")
    tried: tuple[TriedUpstream, ...] = ()

    @property
    def sent_to(self) -> int:
        """The number of recipients, without those that the message is not sent to."""
        return self.recipients - len(self.withheld)

    @property
    def verdict(self) -> Verdict:
        """The part that is not known when its row is begun."""
        return Verdict(*[getattr(self, name) for name in Verdict.__struct_fields__])

    def may_be_seen_by(self, account_id: str) -> bool:
        """True if the account submitted the message or owns an identity that it used."""
        return account_id == self.account_id or account_id in self.parties.owner_ids

    def masked_for(self, account_id: str) -> "Record":
        """The record without the facts of another's identity that the account must not see."""
        if not self.is_masked or account_id == owner_of(self._concerned):
            return self
        own = tuple(used for used in self.identities if owner_of(used.arn) == account_id)
        return structs.replace(
            self,
            reason=MASKED_REASON,
            detail=MASKED_DETAIL,
            decision=None,
            identities=own,
            stage_s=(),
        )

    @property
    def _concerned(self) -> str:
        """The ARN of the last identity that was checked."""
        return self.identities[-1].arn if self.identities else ""


@lru_cache(maxsize=4096)
def owner_of(arn: str) -> str:
    """The account field of an ARN, or an empty text."""
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 else ""


@lru_cache(maxsize=4096)
def user_of(arn: str) -> str:
    """``ACCOUNT/NAME`` of a user's ARN with any path, or an empty text for another ARN.

    User names are compared without regard to letter case, so the name is folded.
    """
    account_id = owner_of(arn)
    return f"{account_id}/{arn.rpartition('/')[2].casefold()}" if "/" in arn else ""


def decided_identity(record: Record) -> str:
    """The ARN of the identity that the decision is about.

    For an allowed message that is the first From's; for a refused one the last one checked.
    """
    if record.decision is None or not record.identities:
        return ""
    if record.decision.outcome == "allow":
        return record.from_identity
    return record.identities[-1].arn


def beginning_of(
    done: SubmissionDone, *, keep_recipients: bool, keep_subject: bool
) -> Beginning:
    """The part of a submission's record that is known before its relay."""
    submission, principal = done.submission, done.submission.principal
    account, client, envelope = principal.account, submission.client, submission.envelope
    return Beginning(
        submission.message_id,
        submission.received_at,
        _kept(client),
        "submission",
        account.id,
        principal.arn,
        client.access_key_id,
        account.organization_id,
        principal.tags,
        envelope.reverse_path.mailbox,
        len(envelope.recipients),
        envelope.mailboxes if keep_recipients else None,
        options_of(envelope, keep_recipients=keep_recipients),
        len(submission.message),
        _subject(done.header) if keep_subject and done.header else None,
        done.intent or _NO_INTENT,
        done.authors,
        done.sender,
        done.resent,
        done.identities,
        None if done.decision is None else _without_excess(done.decision),
    )


def verdict_of(done: SubmissionDone) -> Verdict:
    """The verdict on a submission, as far as the submission has come by now."""
    return Verdict(
        done.done_at,
        done.outcome,
        done.reason,
        done.detail[:_MAX_TEXT],
        _shortened(done.reply),
        done.is_masked,
        _limits(done.charges, done.used),
        done.uncounted[:_MAX_TEXT],
        done.signing_domain,
        done.selectors,
        done.upstream,
        _shortened(done.upstream_reply),
        done.return_path,
        tuple(done.stage_s.items()),
        tuple(RefusedRecipient(str(one.mailbox), str(one.reply)) for one in done.refused)
        if done.refused
        else (),
        tuple(WithheldRecipient(one.mailbox.text, one.outcome) for one in done.withheld)
        if done.withheld
        else (),
        (done.route, done.route_reason),
        tuple(
            TriedUpstream(one.upstream, one.cause, one.problem[:_MAX_TEXT])
            for one in done.tried
        )
        if done.tried
        else (),
    )


def mail_record(event: MailRefused) -> Record:
    """The record of a MAIL command that was refused before a message came."""
    principal = event.principal
    return Record(
        id=event.message_id,
        kind="mail",
        received_at=event.at,
        done_at=event.at,
        outcome="deferred" if event.reply.is_transient else "refused",
        reason=event.reason,
        detail=event.detail[:_MAX_TEXT],
        reply=_shortened(event.reply),
        account_id=principal.account.id,
        user_arn=principal.arn,
        username=event.client.access_key_id,
        organization_id=principal.account.organization_id,
        tags=principal.tags,
        client=_kept(event.client),
        limits=_limits(event.charges, ()),
    )


def _limits(charges: Sequence[Charge], used: Sequence[int]) -> tuple[LimitState, ...]:
    return tuple(
        [
            LimitState(
                charge.subject,
                used_24h,
                charge.limits.max_24h_send,
                charge.limits.max_send_rate_per_s,
            )
            for charge, used_24h in zip_longest(charges, used)
        ]
    )


def login_record(event: AuthFailed, record_id: str) -> Record:
    """The record of a refused login."""
    return Record(
        id=record_id,
        kind="login",
        received_at=event.at,
        done_at=event.at,
        outcome="refused",
        reason=event.reason,
        reply=CATALOGUE["auth-invalid"],
        username=event.username[:_MAX_TEXT],
        client=_kept(event.client),
    )


@made_once
def _kept(client: Client) -> Client:
    """The client without what the record has in fields of its own."""
    smtp = client.smtp
    if len(smtp.helo) > _MAX_TEXT:
        smtp = structs.replace(smtp, helo=smtp.helo[:_MAX_TEXT])
    return structs.replace(client, access_key_id="", account_id="", smtp=smtp)


def _shortened(reply: Reply | None) -> Reply | None:
    if reply is None or len(reply.text) <= _MAX_TEXT:
        return reply
    return reply.with_text(reply.text[:_MAX_TEXT])


@made_once
def _without_excess(decision: Decision) -> Decision:
    """The decision with a bounded number of citations on each side."""
    user, identity = decision.user_side, decision.identity_side
    if len(user.cited) <= _MAX_CITED and len(identity.cited) <= _MAX_CITED:
        return decision
    user, identity = _side_without_excess(user), _side_without_excess(identity)
    kept = {*user.cited, *identity.cited}
    determining = tuple(one for one in decision.determining if one in kept)
    return structs.replace(
        decision, user_side=user, identity_side=identity, determining=determining
    )


def _side_without_excess(side: Side) -> Side:
    return structs.replace(side, cited=side.cited[:_MAX_CITED])


def _subject(block: HeaderBlock) -> str | None:
    """The subject as mail programs show it, or as it came if it cannot be decoded."""
    field = block.first(b"subject")
    if field is None:
        return None
    value = field.value
    is_cut = len(value) > _MAX_READ
    text = value[:_MAX_READ].decode("utf-8", "backslashreplace")
    if "=?" in text:
        if is_cut:  # the last word may be half an encoded word
            text = text.rpartition(" ")[0] or text
        text = _decoded(text)
    shown = "".join(_printable(text[: _MAX_SUBJECT + 1]))
    if len(shown) <= _MAX_SUBJECT and not is_cut:
        return shown
    return shown[: _MAX_SUBJECT - 3] + "..."


def _decoded(text: str) -> str:
    try:
        return decoded(text.split()).strip()
    except DisplayNameError:
        return text


def _printable(text: str) -> Iterator[str]:
    return (one if one.isprintable() else "?" for one in text)
