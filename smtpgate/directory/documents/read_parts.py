"""Reads the tables about events and reports of mail into the parts that they declare."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from smtpgate.core.arn import ArnError, identity_name
from smtpgate.core.naming import account_id as read_account_id
from smtpgate.core.notification.settings import NOTIFICATION_KINDS
from smtpgate.core.proof.mail_from import MailFromError, parse_mail_from
from smtpgate.core.reputation.sender import RatedObject
from smtpgate.directory.documents.desired import DesiredPart, SourceLocation
from smtpgate.directory.documents.fields import account_key, identity_key
from smtpgate.directory.documents.mail_models import (
    Judged,
    NotificationsTable,
    SetTable,
    TopicTable,
)
from smtpgate.directory.documents.models import AccountTable, IdentityTable
from smtpgate.directory.documents.object_keys import ObjectKey
from smtpgate.directory.documents.parts import (
    default_set_key,
    destination_key,
    mail_from_key,
    notifications_key,
    rating_key,
    set_key,
    suppression_key,
    tags_key,
    topic_key,
)
from smtpgate.directory.tags import TaggedKind

Note = Callable[[SourceLocation, str], None]
"""Notes a problem of a document."""

_OWN: Final = "are the account's own; they are set in its identity's table"


class PartReader:
    """Reads the tables of one account in one document, for identities of one region."""

    def __init__(self, region: str, note: Note) -> None:
        self._region = region
        self._note = note

    def of_account(
        self, account_id: str, table: AccountTable, location: SourceLocation
    ) -> Iterator[DesiredPart]:
        """The parts of an account's table."""
        owner = (account_key(account_id),)
        for name, topic in table.topics.items():
            where = location / "topics" / name
            yield self._topic(account_id, name, topic, where)
            yield from self._tags(account_id, "topic", name, topic.tags, where)
        for name, its_set in table.configuration_sets.items():
            where = location / "configuration_sets" / name
            yield from self._set(account_id, name, its_set, where)
        if table.suppress is not None:
            yield DesiredPart(
                location=location / "suppress",
                key=suppression_key(account_id, self._region),
                owners=owner,
                wanted={"reasons": table.suppress},
            )
        for text, wanted in table.notifications.items():
            where = location / "notifications" / text
            named = self._of_another(account_id, text, where)
            if named is not None:
                yield DesiredPart(
                    location=where,
                    key=notifications_key(account_id, self._region, *named),
                    owners=owner,
                    wanted=_notifications(wanted) | {"is_forwarding": True},
                )
        for name, identity in table.identities.items():
            where = location / "identities" / name
            yield from self._of_identity(account_id, name, identity, where)

    def _of_another(
        self, account_id: str, text: str, location: SourceLocation
    ) -> tuple[str, str] | None:
        """The owner and the name of another account's identity, as ``OWNER/NAME``."""
        owner_id, _, name = text.partition("/")
        try:
            named = read_account_id(owner_id), identity_name(name)
        except (ValueError, ArnError):
            self._note(location, "names no identity of another account: write OWNER/NAME")
            return None
        if owner_id == account_id:
            self._note(location, _OWN)
        return named

    def _topic(
        self, account_id: str, name: str, table: TopicTable, location: SourceLocation
    ) -> DesiredPart:
        if account_id in table.open_to:
            self._note(location / "open_to", "names the account itself")
        wanted = {
            "display_name": table.display_name,
            "signature_version": table.signature_version,
            "open_to": tuple(sorted(set(table.open_to))),
        }
        key = topic_key(account_id, self._region, name)
        return DesiredPart(
            location=location, key=key, owners=(account_key(account_id),), wanted=wanted
        )

    def _set(
        self, account_id: str, name: str, table: SetTable, location: SourceLocation
    ) -> Iterator[DesiredPart]:
        key, owner = set_key(account_id, self._region, name), account_key(account_id)
        wanted: dict[str, Any] = {"suppressed_reasons": table.suppress}
        if table.status is not None:
            wanted["is_sending"] = table.status == "active"
        yield DesiredPart(location=location, key=key, owners=(owner,), wanted=wanted)
        yield from self._tags(account_id, "set", name, table.tags, location)
        for its_name, destination in table.destinations.items():
            yield DesiredPart(
                location=location / "destinations" / its_name,
                key=destination_key(account_id, self._region, name, its_name),
                owners=(owner, key),
                wanted={
                    "types": destination.types,
                    "topic": destination.topic,
                    "is_enabled": destination.enabled,
                },
            )
        yield from self._rating(account_id, "set", name, table.reputation, location)

    def _of_identity(
        self, account_id: str, name: str, table: IdentityTable, location: SourceLocation
    ) -> Iterator[DesiredPart]:
        place = account_id, self._region, name
        owners = account_key(account_id), identity_key(*place)
        if table.mail_from is not None:
            where, domain = location / "mail_from", table.mail_from.domain
            try:
                domain = parse_mail_from(domain, name)
            except MailFromError as error:
                self._note(where / "domain", str(error))
            yield DesiredPart(
                location=where,
                key=mail_from_key(*place),
                owners=owners,
                wanted={"domain": domain, "on_mx_failure": table.mail_from.on_mx_failure},
            )
        if table.configuration_set is not None:
            yield DesiredPart(
                location=location / "configuration_set",
                key=default_set_key(*place),
                owners=(*owners, set_key(account_id, self._region, table.configuration_set)),
                wanted={"configuration_set": table.configuration_set},
            )
        if table.notifications is not None:
            yield DesiredPart(
                location=location / "notifications",
                key=notifications_key(account_id, self._region, account_id, name),
                owners=owners,
                wanted=_notifications(table.notifications)
                | {"is_forwarding": table.notifications.forwarding},
            )
        yield from self._rating(account_id, "identity", name, table.reputation, location)
        yield from self._tags(account_id, "identity", name, table.tags, location)

    def _rating(
        self,
        account_id: str,
        kind: RatedObject,
        name: str,
        judged: Judged | None,
        location: SourceLocation,
    ) -> Iterator[DesiredPart]:
        if judged is None:
            return
        owner = ObjectKey(kind, account_id, self._region, name)
        yield DesiredPart(
            location=location / "reputation",
            key=rating_key(account_id, self._region, kind, name),
            owners=(account_key(account_id), owner),
            wanted={"auto_pause": judged == "pause"},
        )

    def _tags(
        self,
        account_id: str,
        kind: TaggedKind,
        name: str,
        tags: Mapping[str, str],
        location: SourceLocation,
    ) -> Iterator[DesiredPart]:
        if tags:
            owner = ObjectKey(kind, account_id, self._region, name)
            yield DesiredPart(
                location=location / "tags",
                key=tags_key(account_id, self._region, kind, name),
                owners=(account_key(account_id), owner),
                wanted={"tags": dict(tags)},
            )


def _notifications(table: NotificationsTable) -> dict[str, Any]:
    kinds = [kind.lower() for kind in NOTIFICATION_KINDS]
    return {
        **{f"{kind}_topic": getattr(table, kind) for kind in kinds},
        **{f"{kind}_headers": kind in table.headers for kind in kinds},
    }
