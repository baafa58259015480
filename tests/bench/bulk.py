"""A large directory, written straight into its tables: made up, but sealed and noted for real.

The mixture of identities repeats with their numbers, so that a measurement can name one of a
kind without looking for it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Table, insert

from smtpgate.directory.dkim import DkimKeyRow, private_key_context
from smtpgate.directory.keys import secret_context
from smtpgate.directory.schema import (
    access_keys,
    accounts,
    audit_log,
    dkim_keys,
    identities,
    policies,
    policy_versions,
    users,
)
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import dns_record, generate_private_key, load_private_key
from tests.support.world import REGION

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH: Final = 10_000
_POLICY_OCTETS: Final = 4_000
_CROWDED_EVERY: Final = 50_000  # identities for one domain with many addresses

FULL_POLICIES: Final = 20
ADDRESSES: Final = 500  # of a crowded domain

# By what an identity has: the step and the first number of those that have it. The rest, nearly
# three quarters, are domains with nothing.
KINDS: Final = {
    "plain": (10, 2),
    "address": (10, 9),
    "one policy": (30, 1),
    "two policies": (30, 11),
    "three policies": (30, 21),
    "Ed25519 key": (10, 5),
    "20 policies of 4 KB": (1000, 0),
    "RSA key": (1000, 500),
}
_POLICIES: Final = {"one policy": 1, "two policies": 2, "three policies": 3}
_Row = dict[str, Any]


def _is(kind: str, number: int) -> bool:
    step, first = KINDS[kind]
    return number % step == first


@dataclass(frozen=True, slots=True)
class Size:
    """The number of accounts, each with one user and key, and of identities."""

    accounts: int
    identities: int

    @property
    def crowded(self) -> int:
        """The number of domains that have many addresses, on top of the identities."""
        return self.identities // _CROWDED_EVERY

    def account_id(self, number: int) -> str:
        """The owner of an identity: neighbours have the same."""
        return f"{self.account_number(number):012}"

    def account_number(self, number: int) -> int:
        """The number of the owner of an identity."""
        return number * self.accounts // self.identities

    def name(self, number: int) -> str:
        """The name of an identity; an address is of the domain before it."""
        if _is("address", number):
            return f"sender@d{number - 1}.example.com"
        return f"d{number}.example.com"

    def key_id(self, account: int) -> str:
        """The access key of an account."""
        return f"AKIA{account:016}"

    def numbers(self, kind: str) -> range:
        """The identities of a kind."""
        step, first = KINDS[kind]
        return range(first, self.identities, step)


def _document(statements: list[object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _for_other(account_id: str, name: str, other: int) -> _Row:
    return {
        "Sid": f"S{other}",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{other:012}:user/mailer"},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": f"arn:aws:ses:{REGION}:{account_id}:identity/{name}",
        "Condition": {
            "StringLike": {"ses:FromAddress": [f"team{other}+*@{name}", f"t*@{name}"]}
        },
    }


def _full_document(account_id: str, name: str, first: int) -> str:
    """As many statements as fit, none of them for the owner."""
    length = len(_document([_for_other(account_id, name, 10**11)]))
    count = _POLICY_OCTETS // length
    return _document(
        [_for_other(account_id, name, 10**11 + first * 100 + one) for one in range(count)]
    )


def _documents(size: Size, number: int) -> list[str]:
    account_id, name = size.account_id(number), size.name(number)
    if _is("20 policies of 4 KB", number):
        return [_full_document(account_id, name, one) for one in range(FULL_POLICIES)]
    count = next((count for kind, count in _POLICIES.items() if _is(kind, number)), 0)
    return [_document([_for_other(account_id, name, 10**11 + one)]) for one in range(count)]


def _account_rows(size: Size) -> Iterator[_Row]:
    for number in range(size.accounts):
        yield {"id": f"{number:012}", "name": f"Tenant {number}", "created_at": _AT}


def _user_rows(size: Size) -> Iterator[_Row]:
    for number in range(size.accounts):
        yield {
            "account_id": f"{number:012}",
            "key": "mailer",
            "name": "mailer",
            "path": "/",
            "tags": {},
            "unique_id": f"AIDA{number:017}",
            "created_at": _AT,
        }


def _key_rows(size: Size, seal: Callable[[bytes, str], bytes]) -> Iterator[_Row]:
    for number in range(size.accounts):
        key_id = size.key_id(number)
        secret = hashlib.sha256(key_id.encode()).hexdigest()[:40].encode()
        yield {
            "id": key_id,
            "account_id": f"{number:012}",
            "user_key": "mailer",
            "secret": seal(secret, secret_context(key_id)),
            "is_active": True,
            "created_at": _AT,
            "networks": [],
        }


def _identity_row(account_id: str, name: str) -> _Row:
    return {
        "account_id": account_id,
        "region": REGION,
        "name": name,
        "domain": name.rpartition("@")[2],
        "token": hashlib.sha256(name.encode()).hexdigest()[:43],
        "state": "success",
        "verified_at": _AT,
        "created_at": _AT,
        "next_check_at": _AT,
    }


def _identity_rows(size: Size) -> Iterator[_Row]:
    for number in range(size.identities):
        yield _identity_row(size.account_id(number), size.name(number))
    for domain in range(size.crowded):
        for one in range(ADDRESSES):
            yield _identity_row(size.account_id(domain), f"person{one}@c{domain}.example.com")


def _policy_rows(size: Size) -> Iterator[_Row]:
    kept = {"version": 1, "changed_at": _AT, "changed_by": "bulk"}
    may_send = _document([{"Effect": "Allow", "Action": "ses:Send*", "Resource": "*"}])
    for number in range(size.accounts):
        whose = {"account_id": f"{number:012}", "kind": "user", "region": ""}
        yield {**whose, "subject": "mailer", "name": "send", "document": may_send, **kept}
    for number in range(size.identities):
        for one, document in enumerate(_documents(size, number)):
            yield {
                "account_id": size.account_id(number),
                "kind": "identity",
                "region": REGION,
                "subject": size.name(number),
                "name": f"p{one}",
                "document": document,
                **kept,
            }


def _signing_key_rows(size: Size, seal: Callable[[bytes, str], bytes]) -> Iterator[_Row]:
    rsa = generate_private_key("rsa")  # one for all: a new one takes a tenth of a second
    for number in range(size.identities):
        if _is("Ed25519 key", number):
            pem = generate_private_key("ed25519")
        elif _is("RSA key", number):
            pem = rsa
        else:
            continue
        private_key = load_private_key(pem, is_checked=True)
        account_id, domain = size.account_id(number), size.name(number)
        place = private_key_context(
            DkimKeyRow(account_id=account_id, region=REGION, domain=domain, selector="s1")
        )
        yield {
            "account_id": account_id,
            "region": REGION,
            "domain": domain,
            "selector": "s1",
            "algorithm": private_key.algorithm,
            "private_key": seal(pem, place),
            "record": dns_record(private_key),
            "stage": "active",
            "since": _AT,
            "created_at": _AT,
            "next_check_at": _AT,
        }


def _audit_rows(size: Size) -> Iterator[_Row]:
    noted = {"at": _AT, "actor": "bulk", "origin": "", "action": "create", "after": {}}
    for number in range(size.accounts):
        account_id = f"{number:012}"
        for kind, name in {"account": "", "user": "mailer", "key": size.key_id(number)}.items():
            yield {**noted, "kind": kind, "account_id": account_id, "name": name}
    for number in range(size.identities):
        whose = {"account_id": size.account_id(number), "name": size.name(number)}
        yield {**noted, "kind": "identity", **whose}


def _batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


async def fill(store: DirectoryStore, size: Size) -> None:
    """Write everything, a batch a transaction, into a store with empty tables."""
    seal = store.master_keys.seal
    tables: Iterable[tuple[Table, Iterator[_Row]]] = (
        (accounts, _account_rows(size)),
        (users, _user_rows(size)),
        (access_keys, _key_rows(size, seal)),
        (identities, _identity_rows(size)),
        (policies, _policy_rows(size)),
        (policy_versions, _policy_rows(size)),
        (dkim_keys, _signing_key_rows(size, seal)),
        (audit_log, _audit_rows(size)),
    )
    for table, rows in tables:
        for batch in _batches(rows):
            async with store.database.writing() as connection:
                await connection.execute(insert(table), batch)
