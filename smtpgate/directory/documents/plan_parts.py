"""Topics, sets and settings of documents against those of the directory, and their steps.

A row is read when its step is taken, because its owner may be made in the same plan.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Final, NamedTuple

from smtpgate.directory.documents import perform_parts as perform
from smtpgate.directory.documents.current_fields import current_fields
from smtpgate.directory.documents.desired import DesiredPart
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.parts import part_owner, set_key, topic_key
from smtpgate.directory.documents.plan import Step, Work
from smtpgate.directory.documents.planning import Order, Ordered, Planning, differences, stated
from smtpgate.directory.topic_grants import topic_place


class PartKind(NamedTuple):
    """A kind of part: its words, when it is made and deleted, and what does that."""

    words: str
    order: Order
    order_away: Order
    put: Work
    remove: Work


KINDS: Final[Mapping[str, PartKind]] = {
    "topic": PartKind(
        "topic {0.account_id}/{0.subject}",
        Order.TOPIC,
        Order.TOPIC_AWAY,
        perform.put_topics,
        perform.remove_topics,
    ),
    "set": PartKind(
        "configuration set {0.account_id}/{0.subject}",
        Order.SET,
        Order.SET_AWAY,
        perform.put_sets,
        perform.remove_sets,
    ),
    "destination": PartKind(
        "event destination {0.name} of configuration set {0.account_id}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_destinations,
        perform.remove_destinations,
    ),
    "default-set": PartKind(
        "default configuration set of identity {0.account_id}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_default_sets,
        perform.remove_default_sets,
    ),
    "mail-from": PartKind(
        "MAIL FROM domain of identity {0.account_id}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_mail_from_domains,
        perform.remove_mail_from_domains,
    ),
    "notifications": PartKind(
        "notifications of account {0.account_id} for identity {0.name}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_notifications,
        perform.reset_notifications,
    ),
    "suppression": PartKind(
        "suppression list of account {0.account_id}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_suppression,
        perform.reset_suppression,
    ),
    "rating": PartKind(
        "reputation of {1} {0.account_id}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_ratings,
        perform.remove_ratings,
    ),
    "tags": PartKind(
        "tags of {1} {0.account_id}/{0.subject}",
        Order.PART,
        Order.PART_AWAY,
        perform.put_all_tags,
        perform.remove_all_tags,
    ),
}
# Deleted in this order: what a deleted set has goes with it, and what is used stays.
_AWAY: Final = (
    "default-set",
    "set",
    "destination",
    "notifications",
    "mail-from",
    "suppression",
    "rating",
    "topic",
    "tags",
)
_NAMED: Final = {"set": "configuration set", "topic": "topic", "identity": "identity"}
_RATED: Final = {**_NAMED, "identity": "delegates on identity"}


def part_steps(planning: Planning) -> Iterator[Ordered]:
    """The steps that make topics, sets and settings the desired ones."""
    for part in planning.desired.parts:
        yield from _part(planning, part)
    away = [key for key in planning.current.parts if key not in planning.desired.wanted_parts]
    users = _users(planning) if planning.prune and away else {}
    for key in sorted(away, key=lambda one: (_AWAY.index(one.kind), one)):
        if _is_gone(planning, key):
            continue
        what, is_theirs = _what(key), planning.force or key in planning.before
        is_used = not all(_is_gone(planning, one) for one in users.get(key, ()))
        if planning.prune and is_theirs and is_used:
            planning.note_drift(key, what, "in no document, and in use")
        elif planning.prunes(key, what):
            kind, columns = KINDS[key.kind], planning.columns(key)
            yield kind.order_away, Step("-", what, "", kind.remove, key, columns)


def _is_gone(planning: Planning, key: ObjectKey) -> bool:
    """True if a part is deleted, by itself or with its owner."""
    return key in planning.removed or part_owner(key) in planning.removed


def _users(planning: Planning) -> Mapping[ObjectKey, Sequence[ObjectKey]]:
    """By topics and sets: the settings of their account that name them afterwards.

    A topic that other accounts use may be deleted, and its grants with it.
    """
    found: defaultdict[ObjectKey, list[ObjectKey]] = defaultdict(list)
    for key, fields in {**planning.current.parts, **planning.desired.wanted_parts}.items():
        if key.kind == "default-set":
            named = set_key(key.account_id, key.region, fields["configuration_set"])
            found[named].append(key)
        elif key.kind in ("destination", "notifications"):
            for name, value in fields.items():
                if name.endswith("topic") and value is not None:
                    found[topic_key(key.account_id, key.region, value)].append(key)
    return found


def _part(planning: Planning, part: DesiredPart) -> Iterator[Ordered]:
    key, wanted, kind = part.key, part.wanted, KINDS[part.key.kind]
    what, there = _what(key), current_fields(planning.current, key)
    columns = planning.columns(key, wanted)
    if there is None or not planning.away.isdisjoint(part.owners):
        if planning.makes(key, wanted, what, *part.owners):
            _note_missing(planning, part, wanted)
            yield kind.order, Step("+", what, stated(wanted), kind.put, (key, wanted), columns)
    elif changes := planning.changes(key, wanted, what):
        _note_missing(planning, part, changes)
        words = differences(SimpleNamespace(**there), changes)
        item = key, {**there, **changes}
        yield kind.order, Step("~", what, words, kind.put, item, columns)


def _what(key: ObjectKey) -> str:
    named = _RATED if key.kind == "rating" else _NAMED
    return KINDS[key.kind].words.format(key, named.get(key.name, ""))


def _note_missing(planning: Planning, part: DesiredPart, changes: Fields) -> None:
    """Note the topics and sets that changes name and that there are not."""
    account_id, region = part.key.account_id, part.key.region
    for name, value in changes.items():
        if value is None:
            continue
        if name == "configuration_set" and not _after(
            planning, set_key(account_id, region, value)
        ):
            planning.note(part.location, f"there is no configuration set {value}")
        if name.removesuffix("_topic") != name or name == "topic":
            owner_id, topic = topic_place(account_id, value)
            its = _after(planning, topic_key(owner_id, region, topic))
            if its is None or (owner_id != account_id and account_id not in its["open_to"]):
                problem = f"there is no topic {value}"
                if owner_id != account_id:
                    problem += f", or it is not open to {account_id}"
                planning.note(part.location, problem)


def _after(planning: Planning, key: ObjectKey) -> Fields | None:
    """The fields of a part when the documents are applied, or ``None``."""
    if key in planning.away:
        return None
    wanted = planning.desired.wanted_parts.get(key)
    if wanted is not None:
        return wanted
    return None if key in planning.removed else planning.current.parts.get(key)
