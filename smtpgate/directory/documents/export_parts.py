"""Topics, configuration sets and settings of the directory as the tables of documents."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from smtpgate.core.notification.settings import NOTIFICATION_KINDS
from smtpgate.directory.documents.object_keys import Fields, ObjectKey

Tables: TypeAlias = dict[str, Any]
_KINDS: Final = tuple(kind.lower() for kind in NOTIFICATION_KINDS)


class PartTables:
    """The tables of all parts, by their accounts and identities."""

    def __init__(self, parts: Mapping[ObjectKey, Fields]) -> None:
        self._of_accounts: defaultdict[str, Tables] = defaultdict(dict)
        self._of_identities: defaultdict[tuple[str, str], Tables] = defaultdict(dict)
        for key, fields in sorted(parts.items(), key=lambda pair: pair[0]):
            self._add(key, fields)

    def of_account(self, account_id: str) -> Tables:
        """The keys of them that the table of an account has."""
        return self._of_accounts.get(account_id, {})

    def of_identity(self, account_id: str, name: str) -> Tables:
        """The keys of them that the table of an identity has."""
        return self._of_identities.get((account_id, name), {})

    def _add(self, key: ObjectKey, fields: Fields) -> None:
        account = self._of_accounts[key.account_id]
        match key.kind:
            case "topic":
                its = account.setdefault("topics", {}).setdefault(key.subject, {})
                its.update(_topic(fields))
            case "set":
                self._set(key).update(_set(fields))
            case "destination":
                self._set(key).setdefault("destinations", {})[key.name] = _destination(fields)
            case "suppression":
                account["suppress"] = [one.lower() for one in fields["reasons"]]
            case "rating" | "tags" if key.name == "set":
                self._set(key).update(_of_identity(key.kind, fields))
            case "tags" if key.name == "topic":
                account.setdefault("topics", {}).setdefault(key.subject, {}).update(fields)
            case "notifications" if key.name != key.account_id:
                named = account.setdefault("notifications", {})
                named[f"{key.name}/{key.subject}"] = _notifications(fields)
            case _:
                its = self._of_identities[key.account_id, key.subject]
                its.update(_of_identity(key.kind, fields))

    def _set(self, key: ObjectKey) -> Tables:
        sets = self._of_accounts[key.account_id].setdefault("configuration_sets", {})
        found: Tables = sets.setdefault(key.subject, {})
        return found


def _of_identity(kind: str, fields: Fields) -> Tables:
    if kind == "mail-from":
        return {"mail_from": dict(fields)}
    if kind == "rating":
        return _rating(fields)
    if kind == "notifications":
        forwarding = {} if fields["is_forwarding"] else {"forwarding": False}
        return {"notifications": _notifications(fields) | forwarding}
    return dict(fields)  # its default configuration set


def _rating(fields: Fields) -> Tables:
    return {"reputation": "pause" if fields["auto_pause"] else "rate"}


def _topic(fields: Fields) -> Tables:
    version, open_to = fields["signature_version"], fields["open_to"]
    name = fields["display_name"]
    return {
        **({"display_name": name} if name else {}),
        **({} if version == "1" else {"signature_version": version}),
        **({"open_to": list(open_to)} if open_to else {}),
    }


def _set(fields: Fields) -> Tables:
    reasons = fields["suppressed_reasons"]
    return {
        **({} if fields["is_sending"] else {"status": "paused"}),
        **({} if reasons is None else {"suppress": [one.lower() for one in reasons]}),
    }


def _destination(fields: Fields) -> Tables:
    enabled = {} if fields["is_enabled"] else {"enabled": False}
    return {"types": list(fields["types"]), "topic": fields["topic"], **enabled}


def _notifications(fields: Fields) -> Tables:
    headers = [kind for kind in _KINDS if fields[f"{kind}_headers"]]
    return {
        **{kind: its for kind in _KINDS if (its := fields[f"{kind}_topic"]) is not None},
        **({"headers": headers} if headers else {}),
    }
