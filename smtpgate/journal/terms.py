"""Terms: the few facts that records are found by, as digests under a key.

Addresses are in the journal in a form that cannot be read without the key, so that it can be
searched by recipient also where recipients are not kept. The key is a file in the state folder,
made by the first start. A journal knows the key it was begun with: with another one, searches
would find nothing and say nothing.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from smtpgate import key_file
from smtpgate.core.address import Mailbox
from smtpgate.core.history.record import Parties, Verdict, user_of
from smtpgate.core.made_once import made_once
from smtpgate.core.reply import MASKED_REASON
from smtpgate.key_file import KEY_OCTETS, keys_in, make_key_file

TERM_OCTETS: Final = 12
_ACCEPTED: Final = "accepted"


class TermKeyError(ValueError):
    """A key file that cannot be used; the text says what to do."""


class TermKey:
    """Makes terms."""

    def __init__(self, key: bytes) -> None:
        self.octets = key

        @lru_cache(maxsize=8192)
        def term(text: str) -> bytes:
            octets = text.encode("utf-8", "surrogatepass")
            return hashlib.blake2b(octets, key=key, digest_size=TERM_OCTETS).digest()

        self._term = term
        self._of_parties = made_once(self._terms_of_parties)

    @property
    def check(self) -> str:
        """A value that identifies this key, and reveals nothing else about it."""
        return self._term("check").hex()

    def account(self, account_id: str) -> bytes:
        """The term of records that the account may see: of itself and its identities."""
        return self._term(f"account:{account_id}")

    def address(self, address: str) -> bytes:
        """Of an address of the envelope, of From or of Sender, whatever its letter case."""
        return self._term("address:" + address.casefold())

    def user(self, user: str) -> bytes:
        """Of a sender, as ``ACCOUNT/NAME`` with any letter case."""
        return self._term(f"user:{user.casefold()}")

    def identity(self, identity: str) -> bytes:
        """Of an identity: by its ARN one that was used, by its name one that could matter."""
        return self._term(f"identity:{identity}")

    def username(self, name: str) -> bytes:
        """The term of the user name of a refused login."""
        return self._term(f"username:{name}")

    def reason(self, reason: str) -> bytes:
        """Of a reason code, ``accepted`` aside."""
        return self._term(f"reason:{reason}")

    def outcome(self, outcome: str) -> bytes:
        """Of an outcome, ``accepted`` aside."""
        return self._term(f"outcome:{outcome}")

    def both(self, party: bytes, verdict: bytes) -> bytes:
        """Of a term of an account, a user or an ARN, and one of a verdict.

        A busy account and a frequent reason may never meet. Without this term a search would
        compare all records of the one with all of the other.
        """
        return hashlib.blake2b(
            party + verdict, key=self.octets, digest_size=TERM_OCTETS
        ).digest()

    def before_relay(
        self, parties: Parties, recipients: Iterable[Mailbox] = ()
    ) -> frozenset[bytes]:
        """The terms of a message that do not depend on the verdict."""
        address = self.address
        return self._of_parties(parties).union([address(one.text) for one in recipients])

    def _terms_of_parties(self, parties: Parties) -> frozenset[bytes]:
        found = self._with_verdict(parties)
        found.update(self.address(one.text) for one in parties.mailboxes)
        found.update(map(self.identity, parties.names))
        return frozenset(found)

    def _with_verdict(self, parties: Parties) -> set[bytes]:
        found = {self.account(parties.account_id), *map(self.account, parties.owner_ids)}
        found.update(map(self.identity, parties.arns))
        if user := user_of(parties.user_arn):
            found.add(self.user(user))
        return found

    def of_verdict(self, verdict: Verdict, parties: Parties | None) -> frozenset[bytes]:
        """The terms of a verdict that searches may use; a login has no parties."""
        if verdict.outcome == _ACCEPTED:
            return frozenset()
        found = {self.outcome(verdict.outcome), self.reason(verdict.reason)}
        if verdict.is_masked:
            # The sender looks for the reason that it was given, the owner for the true one.
            found.add(self.reason(MASKED_REASON))
        with_verdict = () if parties is None else self._with_verdict(parties)
        return frozenset(found).union(self.both(p, v) for p in with_verdict for v in found)


def read_key(path: Path) -> TermKey:
    """The key of a file. Raises TermKeyError or OSError."""
    try:
        (key,) = keys_in(path.read_text("ascii"))
    except ValueError:
        raise TermKeyError(
            f"{path}: is not {KEY_OCTETS} octets in base64; put it back"
        ) from None
    return TermKey(key)


def new_key() -> TermKey:
    """A new random key."""
    return TermKey(key_file.new_key())


def read_or_make_key(path: Path, new: TermKey | None = None) -> TermKey:
    """The key of a file; when there is none, it is made and has that new key, or any.

    Raises TermKeyError or OSError.
    """
    try:
        return read_key(path)
    except FileNotFoundError:
        make_key_file(path, (new or new_key()).octets)
    return read_key(path)
