"""Completion of names in the shell, from the directory; without one there is nothing to offer.

A shell waits for it at every press of a key, so one page is read and nothing is ever told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import typer

from smtpgate.cli.terminal import DEFAULT_CONFIG
from smtpgate.clock import SystemClock
from smtpgate.config import load_config
from smtpgate.core.naming import user_key
from smtpgate.directory.accounts import account_page
from smtpgate.directory.identities import identity_page
from smtpgate.directory.keys import access_key_page
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import user_page
from smtpgate.gate.directory import must_exist, open_directory

_OFFERED = 100
Question = Callable[[DirectoryStore, str], Awaitable[Iterable[str]]]


def _offered(context: typer.Context, begun: str, question: Question) -> list[str]:
    """What the question answers and begins as what was typed."""
    try:
        file = context.params.get("config") or DEFAULT_CONFIG
        found = asyncio.run(_asked(Path(file), begun, question))
    except Exception:  # noqa: BLE001 - whatever it was, there is a line half typed
        return []
    return [name for name in found if name.startswith(begun)]


async def _asked(file: Path, begun: str, question: Question) -> Iterable[str]:
    async with open_directory(load_config(file), SystemClock(), [], use="connect") as store:
        must_exist(store)
        return await question(store, begun)


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
    """A place such that what is typed already comes behind it, if that is a whole name."""
    return begun and f"{begun[:-1]}{chr(ord(begun[-1]) - 1)}\U0010ffff"


async def _accounts(store: DirectoryStore, begun: str) -> Iterable[str]:
    async with store.reading() as connection:
        rows = await account_page(connection, after=_just_before(begun), limit=_OFFERED)
    return [row.id for row in rows]


async def _account_slash(store: DirectoryStore, begun: str) -> Iterable[str]:
    return [f"{account_id}/" for account_id in await _accounts(store, begun)]


async def _users(store: DirectoryStore, begun: str) -> Iterable[str]:
    account_id, _, name = begun.partition("/")
    async with store.reading() as connection:
        place = (account_id, _just_before(user_key(name)))
        rows = await user_page(connection, account_id, after=place, limit=_OFFERED)
    return [f"{row.account_id}/{row.name}" for row in rows]


async def _identities(store: DirectoryStore, begun: str) -> Iterable[str]:
    account_id, _, name = begun.partition("/")
    async with store.reading() as connection:
        rows = await identity_page(
            connection,
            store.region,
            account_id=account_id,
            after=(account_id, _just_before(name)),
            limit=_OFFERED,
        )
    return [f"{row.account_id}/{row.name}" for row in rows]


async def _keys(store: DirectoryStore, begun: str) -> Iterable[str]:
    async with store.reading() as connection:
        rows = await access_key_page(connection, after=_just_before(begun), limit=_OFFERED)
    return [row.id for row in rows]
