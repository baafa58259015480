"""Records as rows, and back: the same record comes out that was put in.

Texts of statements are not in the row but beside it, by their digest: a few statements decide
about all messages.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import starmap
from typing import Any, Final, NamedTuple, TypeAlias, cast, get_args

from msgspec import Raw, Struct, field

from smtpgate.core.address import Mailbox, parse_mailbox
from smtpgate.core.arn import IdentityArn
from smtpgate.core.events import Stage, UsedIdentity
from smtpgate.core.history.record import (
    Beginning,
    LimitState,
    Record,
    RefusedRecipient,
    TriedUpstream,
    Verdict,
    WithheldRecipient,
)
from smtpgate.core.limits import Subject
from smtpgate.core.made_once import made_once, made_once_with
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client, SmtpFacts
from smtpgate.core.message.event_fields import MessageTags
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.moments import kept_microseconds, moment
from smtpgate.core.policy import Decision, Determining, NearestMiss, Outcome, Side
from smtpgate.core.reply import Reply
from smtpgate.journal.schema import records
from smtpgate.json_text import json_part, json_text

Facts: TypeAlias = dict[str, Any]
Texts: TypeAlias = Mapping[str, str]
"""Those of statements, by their digest."""

HOUR_US: Final = 3_600_000_000
_decode: Final = json.loads
_OUTCOMES: Final[Mapping[str, Outcome]] = {one: one for one in get_args(Outcome)}


class Row(Struct, frozen=True, gc=False, array_like=True):
    """A row of ``journal_records``, without its number and terms."""

    id: str
    kind: str
    received_us: int
    done_us: int | None
    outcome: str
    reason: str
    account_id: str
    user_arn: str
    from_identity: str
    octets: int
    recipients: int
    facts: str
    verdict: str
    writer: int | None = None

    def completed(self, done_us: int | None, outcome: str, reason: str, verdict: str) -> "Row":
        """The row with these columns of the verdict."""
        return Row(  # `replace` takes twice as long
            self.id,
            self.kind,
            self.received_us,
            done_us,
            outcome,
            reason,
            self.account_id,
            self.user_arn,
            self.from_identity,
            self.octets,
            self.recipients,
            self.facts,
            verdict,
            self.writer,
        )

    @property
    def is_masked(self) -> bool:
        """True if the sender must not learn the reason."""
        return '"masked":true' in self.verdict  # a quote in a text would have a backslash

    @property
    def sent_to(self) -> int:
        """The number of recipients, without those that the message is not sent to."""
        if '"withheld":' not in self.verdict:
            return self.recipients
        return self.recipients - len(_decode(self.verdict)["withheld"])


COLUMNS: Final = tuple(records.c[name] for name in Row.__struct_fields__)
"""The columns of a ``Row``, in its order."""


def day_of(received_us: int) -> int:
    """The day of a moment, in days since 1970."""
    return received_us // (24 * HOUR_US)


def hour_of(received_us: int) -> int:
    """The hour of a moment, in hours since 1970."""
    return received_us // HOUR_US


@lru_cache(maxsize=4096)
def digest_of(text: str) -> str:
    """The digest that a statement's text is found by."""
    octets = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(octets, digest_size=16).hexdigest()


# -- records to rows ---------------------------------------------------------------------------


def row_of(record: Beginning, writer: int | None = None) -> tuple[Row, Texts]:
    """The row without its verdict, and the texts of the statements that it cites by digest.

    ``writer`` is the number of the gate that will complete it.
    """
    cited = _NO_CITED if record.decision is None else _decision(record.decision)
    row = Row(
        record.id,
        record.kind,
        kept_microseconds(record.received_at),
        None,
        "relaying",
        "relaying",
        record.account_id,
        record.user_arn,
        record.from_identity,
        record.octets,
        record.recipients,
        _facts(record, cited.decision),
        "{}",
        writer,
    )
    return row, cited.texts


def with_verdict(row: Row, verdict: Verdict) -> Row:
    """The row with the verdict, and with all that is known only after the row was begun."""
    return row.completed(
        None if verdict.done_at is None else kept_microseconds(verdict.done_at),
        verdict.outcome,
        verdict.reason,
        json_text(_verdict(verdict)),
    )


class _Shared(Struct, gc=False, omit_defaults=True):
    """The details that the messages of a session share; those that are empty are absent."""

    key: str
    client: list[str | int | None]
    token: str | None = None
    org: str | None = None
    tags: tuple[tuple[str, str], ...] | None = None
    path: str | None = None
    arns: list[str | None] | None = None
    set: str | None = None
    labels: MessageTags | None = None
    authors: list[list[str | None]] | None = field(default=None, name="from")
    sender: list[str | None] | None = None
    resent: list[list[str | None]] | None = None
    used: list[tuple[str, str, str, str]] | None = None
    decision: Raw | None = None


class _Own(Struct, gc=False, omit_defaults=True):
    """The details of one message alone, as far as they are kept."""

    subject: str | None = None
    to: list[str] | None = None
    options: tuple[str, ...] | None = None


def _facts(record: Beginning, decision: Raw | None) -> str:
    """The details known when the row is begun; most of them are the same for a sender."""
    shared = _shared(
        record.client,
        record.username,
        record.organization_id,
        record.tags,
        record.reverse_path,
        record.identities,
        decision,
        record.intent,
        record.authors,
        record.sender,
        record.resent,
    )
    to = record.forward_paths
    own = json_text(
        _Own(
            record.subject,
            None if to is None else [_address(mailbox) for mailbox in to],
            record.options or None,
        )
    )
    return f"{shared}}}" if own == "{}" else f"{shared},{own[1:]}"


@made_once_with
def _shared(
    client: Client,
    key: str,
    organization_id: str | None,
    tags: tuple[tuple[str, str], ...],
    path: Mailbox | None,
    identities: tuple[UsedIdentity, ...],
    decision: Raw | None,
    intent: SendingIntent,
    authors: tuple[Author, ...],
    sender: Author | None,
    resent: tuple[Author, ...],
) -> str:
    """The details that the messages of a session share, in an object that is still open."""
    whole = json_text(
        _Shared(
            key=key,
            client=_client(client),
            token=client.token or None,
            org=organization_id,
            tags=tags or None,
            path=None if path is None else _address(path),
            arns=_arns(intent),
            set=intent.configuration_set or None,
            labels=intent.tags or None,
            authors=[_author(one) for one in authors] or None,
            sender=None if sender is None else _author(sender),
            resent=[_author(one) for one in resent] or None,
            used=[(one.role, _address(one.address), one.arn, one.how) for one in identities]
            or None,
            decision=decision,
        )
    )
    return whole[:-1]


class _Verdict(Struct, gc=False, omit_defaults=True):
    """The details that come after the row was begun; those that are empty are absent."""

    limits: list[tuple[str, str, int | None, int, float]] | None = None
    uncounted: str | None = None
    domain: str | None = None
    selectors: tuple[str, ...] | None = None
    detail: str | None = None
    reply: list[object] | None = None
    upstream: str | None = None
    upstream_reply: list[object] | None = None
    return_path: str | None = None
    stages: tuple[tuple[Stage, float], ...] | None = None
    masked: bool | None = None
    refused: tuple[tuple[str, str], ...] | None = None
    withheld: tuple[tuple[str, str], ...] | None = None
    route: tuple[str, str] | None = None
    tried: tuple[tuple[str, str, str], ...] | None = None


def _verdict(verdict: Verdict) -> _Verdict:
    return _Verdict(
        limits=[
            (
                one.subject.kind,
                one.subject.name,
                one.used_24h,
                one.max_24h_send,
                one.max_send_rate_per_s,
            )
            for one in verdict.limits
        ]
        or None,
        uncounted=verdict.uncounted or None,
        domain=verdict.signing_domain,
        selectors=verdict.selectors or None,
        detail=verdict.detail or None,
        reply=_reply(verdict.reply),
        upstream=verdict.upstream,
        upstream_reply=_reply(verdict.upstream_reply),
        return_path=None if verdict.return_path is None else str(verdict.return_path),
        stages=verdict.stage_s or None,
        masked=verdict.is_masked or None,
        refused=verdict.refused or None,
        withheld=verdict.withheld or None,
        route=verdict.route if verdict.route[0] else None,
        tried=verdict.tried or None,
    )


def _client(client: Client) -> list[str | int | None]:
    smtp = client.smtp
    return [
        client.address,
        client.port,
        client.listener,
        client.protocol,
        client.session_id,
        smtp.helo,
        smtp.tls_version,
        smtp.tls_cipher,
        smtp.mechanism,
        smtp.proxy,
    ]


def _address(mailbox: Mailbox) -> str:
    """Not as it is printed, so that it need not be parsed: the last ``@`` divides it."""
    return f"{mailbox.local_part}@{mailbox.domain}"


def _arns(intent: SendingIntent) -> list[str | None] | None:
    arns = (intent.source_arn, intent.from_arn, intent.return_path_arn)
    if arns == (None, None, None):
        return None
    return [None if arn is None else str(arn) for arn in arns]


def _author(author: Author) -> list[str | None]:
    return [author.display_name, _address(author.mailbox), *author.other_names]


def _reply(reply: Reply | None) -> list[object] | None:
    return None if reply is None else [reply.code, reply.enhanced, reply.text]


class _Cited(NamedTuple):
    """A decision, and the texts of the statements that it cites by digest."""

    decision: Raw | None
    texts: Texts


_NO_CITED: Final = _Cited(None, {})


@made_once
def _decision(decision: Decision) -> _Cited:
    """Both decisions in full; a repeated statement is replaced by its index."""
    texts: dict[str, str] = {}
    user, identity = decision.user_side, decision.identity_side
    cited, by = (*user.cited, *identity.cited), decision.determining
    facts: Facts = {
        "outcome": decision.outcome,
        # Mostly all of them determine it.
        "by": [*range(len(cited))] if by == cited else _places(by, cited, texts),
        "user": _side(user, texts),
        "identity": _side(identity, texts),
    }
    miss = decision.nearest_miss
    if miss is not None:
        sides = [at for at, side in enumerate((user, identity)) if side.miss is miss]
        facts["miss"] = sides[0] if sides else _miss(miss, texts)
    return _Cited(json_part(facts), texts)


def _places(
    some: Iterable[Determining], cited: Iterable[Determining], texts: dict[str, str]
) -> list[object]:
    """Each statement by its place among those that are cited, or in full."""
    places = {id(one): at for at, one in enumerate(cited)}
    return [places[id(one)] if id(one) in places else _cited(one, texts) for one in some]


def _cited(cited: Determining, texts: dict[str, str]) -> list[object]:
    digest = None
    if cited.text:
        digest = digest_of(cited.text)
        texts[digest] = cited.text
    return [cited.side, cited.policy, cited.sid, cited.index, digest]


def _side(side: Side, texts: dict[str, str]) -> Facts:
    facts: Facts = {
        "outcome": side.outcome,
        "needed": side.is_needed,
        "by": [_cited(one, texts) for one in side.cited],
        "has": side.has_policies,
    }
    if side.miss is not None:
        facts["miss"] = _miss(side.miss, texts)
    return facts


def _miss(miss: NearestMiss, texts: dict[str, str]) -> list[object]:
    return [*_cited(miss.statement, texts), miss.element, miss.wanted, miss.seen]


# -- rows to records ---------------------------------------------------------------------------


def digests_in(row: Row) -> set[str]:
    """The digests of all statements that a row cites."""
    found: set[str] = set()
    decision = _decode(row.facts).get("decision")
    if decision is None:
        return found
    for part in (decision, decision["user"], decision["identity"]):
        for one in (*part["by"], part.get("miss")):
            if isinstance(one, list) and one[4] is not None:
                found.add(one[4])
    return found


def record_of(row: Row, texts: Texts) -> Record:
    """The record; a statement whose text is not given has none."""
    verdict = _decode(row.verdict)
    facts = _decode(row.facts)
    path, sender, decision = facts.get("path"), facts.get("sender"), facts.get("decision")
    to = facts.get("to")
    return Record(
        id=row.id,
        kind=cast("Any", row.kind),
        received_at=moment(row.received_us),
        done_at=None if row.done_us is None else moment(row.done_us),
        outcome=cast("Any", row.outcome),
        reason=row.reason,
        detail=verdict.get("detail", ""),
        reply=_reply_in(verdict.get("reply")),
        account_id=row.account_id,
        user_arn=row.user_arn,
        username=facts.get("key", ""),
        organization_id=facts.get("org"),
        tags=tuple((key, value) for key, value in facts.get("tags", ())),
        client=_client_in(facts["client"], facts.get("token", "")),
        reverse_path=None if path is None else _mailbox_in(path),
        recipients=row.recipients,
        forward_paths=None if to is None else tuple(map(_mailbox_in, to)),
        options=tuple(facts.get("options", ())),
        octets=row.octets,
        subject=facts.get("subject"),
        intent=_intent_in(facts),
        authors=tuple(map(_author_in, facts.get("from", ()))),
        sender=None if sender is None else _author_in(sender),
        resent=tuple(map(_author_in, facts.get("resent", ()))),
        identities=_identities_in(facts),
        decision=None if decision is None else _decision_in(decision, texts),
        is_masked=verdict.get("masked", False),
        limits=_limits_in(row.account_id, verdict),
        uncounted=verdict.get("uncounted", ""),
        signing_domain=verdict.get("domain"),
        selectors=tuple(verdict.get("selectors", ())),
        upstream=verdict.get("upstream"),
        upstream_reply=_reply_in(verdict.get("upstream_reply")),
        return_path=_return_path_in(verdict.get("return_path")),
        stage_s=tuple((stage, seconds) for stage, seconds in verdict.get("stages", ())),
        refused=tuple(starmap(RefusedRecipient, verdict.get("refused", ()))),
        withheld=tuple(starmap(WithheldRecipient, verdict.get("withheld", ()))),
        route=tuple(verdict.get("route", ("", ""))),
        tried=tuple(starmap(TriedUpstream, verdict.get("tried", ()))),
    )


def _identities_in(facts: Facts) -> tuple[UsedIdentity, ...]:
    return tuple(
        UsedIdentity(role, _mailbox_in(address), arn, how)
        for role, address, arn, how in facts.get("used", ())
    )


def _limits_in(account_id: str, verdict: Facts) -> tuple[LimitState, ...]:
    return tuple(
        LimitState(Subject(account_id, kind, name), *state)
        for kind, name, *state in verdict.get("limits", ())
    )


def _return_path_in(text: str | None) -> Mailbox | None:
    return None if text is None else parse_mailbox(text)


def _client_in(facts: list[Any], token: str) -> Client:
    address, port, listener, protocol, session_id, *smtp = facts
    known = SmtpFacts(*smtp)
    return Client(
        address=address,
        port=port,
        listener=listener,
        protocol=protocol,
        is_tls=known.tls_version is not None,
        session_id=session_id,
        token=token,
        smtp=known,
    )


def _mailbox_in(text: str) -> Mailbox:
    local_part, _, domain = text.rpartition("@")
    return Mailbox(local_part, domain)


def _intent_in(facts: Facts) -> SendingIntent:
    source, author, return_path = map(_arn_in, facts.get("arns") or (None, None, None))
    labels = tuple((name, tuple(values)) for name, values in facts.get("labels", ()))
    return SendingIntent(source, author, return_path, facts.get("set", ""), labels)


def _arn_in(text: str | None) -> IdentityArn | None:
    if text is None:
        return None
    _, partition, _, region, account_id, resource = text.split(":", 5)
    return IdentityArn(partition, region, account_id, resource.removeprefix("identity/"))


def _author_in(value: list[Any]) -> Author:
    name, mailbox, *others = value
    return Author(name, _mailbox_in(mailbox), tuple(others))


def _reply_in(value: list[Any] | None) -> Reply | None:
    return None if value is None else Reply(*value)


def _decision_in(facts: Facts, texts: Texts) -> Decision:
    user = _side_in("user", facts["user"], texts)
    identity = _side_in("identity", facts["identity"], texts)
    cited, miss = (*user.cited, *identity.cited), facts.get("miss")
    return Decision(
        _OUTCOMES[facts["outcome"]],
        tuple(
            cited[one] if isinstance(one, int) else _cited_in(one, texts) for one in facts["by"]
        ),
        user,
        identity,
        (user, identity)[miss].miss if isinstance(miss, int) else _miss_in(miss, texts),
    )


def _cited_in(value: list[Any], texts: Texts) -> Determining:
    side, policy, sid, index, digest = value
    return Determining(side, policy, sid, index, texts.get(digest, ""))


def _side_in(name: Any, facts: Facts, texts: Texts) -> Side:  # noqa: ANN401 - one of two words
    return Side(
        name,
        _OUTCOMES[facts["outcome"]],
        facts["needed"],
        tuple(_cited_in(one, texts) for one in facts["by"]),
        _miss_in(facts.get("miss"), texts),
        facts["has"],
    )


def _miss_in(value: list[Any] | None, texts: Texts) -> NearestMiss | None:
    if value is None:
        return None
    side, policy, sid, index, digest, element, wanted, seen = value
    text = texts.get(digest, "")
    return NearestMiss(side, policy, sid, index, element, wanted, seen, text)
