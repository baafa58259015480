"""Sessions of the use cases: of an operator, an account's root, a user with its policies."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from smtpgate.admin.session import OPERATOR, Operator, Session
from smtpgate.config import Config, load_config
from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.arn import user_arn
from smtpgate.core.policy import parse_policy
from smtpgate.directory.change import Actor
from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock
from tests.support.desk import Desk
from tests.support.world import OWNER

_LIMITS: Final = SendingLimits(200, 1)


@cache
def config() -> Config:
    """The configuration of a gate whose directory is elsewhere."""
    with TemporaryDirectory() as folder:
        desk = Desk(Path(folder), None)
        desk.take_bounces()
        return load_config(desk.config)


def root(account_id: str = OWNER) -> Principal:
    """The root of an account."""
    return Principal.root(Account(account_id, "", _LIMITS))


def user(
    *statements: dict[str, object], account_id: str = OWNER, name: str = "admin"
) -> Principal:
    """A user with one policy of those statements, or with none."""
    policies = []
    if statements:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        policies.append(parse_policy(document, kind="user", name="rights"))
    arn = user_arn(account_id, name)
    return Principal(Account(account_id, "", _LIMITS), name, arn, "AIDA", tuple(policies))


def allow(*actions: str, resource: str = "*", **elements: object) -> dict[str, object]:
    """A statement that allows those actions."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **elements}


def deny(*actions: str, resource: str = "*", **elements: object) -> dict[str, object]:
    """A statement that denies those actions."""
    return allow(*actions, resource=resource, **elements) | {"Effect": "Deny"}


def allow_all_but(*actions: str) -> dict[str, object]:
    """A statement that allows every other action."""
    return {"Effect": "Allow", "NotAction": list(actions), "Resource": "*"}


def session_of(
    store: DirectoryStore,
    caller: Operator | Principal = OPERATOR,
    *,
    clock: MovableClock | None = None,
    address: str | None = None,
) -> Session:
    """A session of that caller; its DNS questions are not deferred by chance."""
    return Session(
        config=config(),
        store=store,
        clock=clock or MovableClock(),
        actor=Actor("tester", "a test"),
        caller=caller,
        address=address,
        chance=lambda: 0.0,
    )
