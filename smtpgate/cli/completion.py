"""Completion of names in the shell, from the directory; without one there is nothing to offer.

The shell waits for it at each press of a key, so one page is read and no error is printed. All
commands import this module, so what lists names is imported where it is asked.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import typer

from smtpgate.admin.session import Session, operator_session
from smtpgate.cli.terminal import DEFAULT_CONFIG
from smtpgate.clock import SystemClock
from smtpgate.config import load_config
from smtpgate.core.naming import user_key
from smtpgate.gate.directory import must_exist, open_directory

T = TypeVar("T")
_OFFERED: Final = 100
# The names that may follow what was typed.
Names = Callable[[Session, str], AsyncIterator[str]]


def _offered(context: typer.Context, begun: str, names: Names) -> list[str]:
    """The names that begin with what was typed."""
    try:
        file = context.params.get("config") or DEFAULT_CONFIG
        found = asyncio.run(_found(Path(file), begun, names))
    except Exception:  # noqa: BLE001 - there is a half-typed line on the terminal
        return []
    return [name for name in found if name.startswith(begun)]


async def _found(file: Path, begun: str, names: Names) -> Iterable[str]:
    config, clock = load_config(file), SystemClock()
    async with open_directory(config, clock, [], use="connect") as store:
        must_exist(store)
        session = operator_session(config, store, clock, name="", origin="completion")
        return [name async for name in names(session, begun)]


def account_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of accounts."""
    return _offered(context, incomplete, _accounts)


def user_names(context: typer.Context, incomplete: str) -> list[str]:
    """``ACCOUNT/NAME`` of users; accounts before there is a slash."""
    return _offered(context, incomplete, _users if "/" in incomplete else _account_slash)


def owner_names(context: typer.Context, incomplete: str) -> list[str]:
    """Accounts, and their users behind a slash."""
    return _offered(context, incomplete, _users if "/" in incomplete else _accounts)


def identity_names(context: typer.Context, incomplete: str) -> list[str]:
    """``ACCOUNT/NAME`` of identities; accounts before there is a slash."""
    return _offered(context, incomplete, _identities if "/" in incomplete else _account_slash)


def key_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of access keys."""
    return _offered(context, incomplete, _keys)


def _just_before(begun: str) -> str:
    """A position directly before all names that begin so."""
    return begun and f"{begun[:-1]}{chr(ord(begun[-1]) - 1)}\U0010ffff"


async def _each(pages: AsyncIterator[Sequence[T]]) -> AsyncIterator[T]:
    async for page in pages:
        for one in page:
            yield one


async def _accounts(session: Session, begun: str) -> AsyncIterator[str]:
    from smtpgate.admin import accounts  # noqa: PLC0415

    found = accounts.pages(session, after=_just_before(begun), limit=_OFFERED)
    async for account in _each(found):
        yield account.id


async def _account_slash(session: Session, begun: str) -> AsyncIterator[str]:
    async for account_id in _accounts(session, begun):
        yield f"{account_id}/"


async def _users(session: Session, begun: str) -> AsyncIterator[str]:
    from smtpgate.admin import users  # noqa: PLC0415

    account_id, _, name = begun.partition("/")
    after = (account_id, _just_before(user_key(name)))
    async for user in _each(users.pages(session, account_id, after=after, limit=_OFFERED)):
        yield f"{user.account_id}/{user.name}"


async def _identities(session: Session, begun: str) -> AsyncIterator[str]:
    from smtpgate.admin import identities  # noqa: PLC0415

    account_id, _, name = begun.partition("/")
    after = (account_id, _just_before(name))
    found = identities.pages(session, account_id, after=after, limit=_OFFERED)
    async for identity in _each(found):
        yield f"{identity.account_id}/{identity.name}"


async def _keys(session: Session, begun: str) -> AsyncIterator[str]:
    from smtpgate.admin import keys  # noqa: PLC0415

    async for key in _each(keys.pages(session, after=_just_before(begun), limit=_OFFERED)):
        yield key.id
