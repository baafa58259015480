"""Private keys that documents name, most of which the directory has already."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import select

from smtpgate.core.identity import PrivateKey
from smtpgate.directory.dkim import private_key_context
from smtpgate.directory.schema import dkim_keys
from smtpgate.directory.sealing import MasterKeys, SealError
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import MIN_RSA_BITS, load_private_key

_KEY: Final = (
    dkim_keys.c.account_id,
    dkim_keys.c.region,
    dkim_keys.c.domain,
    dkim_keys.c.selector,
    dkim_keys.c.private_key,
)


async def key_loader(
    store: DirectoryStore, min_rsa_bits: int = MIN_RSA_BITS
) -> Callable[[bytes], PrivateKey]:
    """A function that parses a private key, and checks one that the directory does not have.

    The check of an RSA key takes a hundred times as long as all else that is done with it, and
    the documents are read at every start. Raises DirectoryUnavailableError.
    """
    query = select(*_KEY).where(dkim_keys.c.region == store.region)
    async with store.reading() as connection:
        rows = (await connection.execute(query)).all()
    known = await asyncio.to_thread(_known, store.master_keys, rows)
    return lambda pem: load_private_key(
        pem, is_checked=_digest(pem) in known, min_rsa_bits=min_rsa_bits
    )


def _known(master_keys: MasterKeys, rows: Sequence[Any]) -> frozenset[bytes]:
    return frozenset(_digest(pem) for pem in _opened(master_keys, rows))


def _opened(master_keys: MasterKeys, rows: Sequence[Any]) -> Iterator[bytes]:
    for row in rows:
        try:
            yield master_keys.open(row.private_key, private_key_context(row))
        except SealError:
            continue  # as one that is not there


def _digest(pem: bytes) -> bytes:
    return hashlib.sha256(pem).digest()
