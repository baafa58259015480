"""Uses of keys that are alike, added up: what is judged once a second instead of for each."""

from typing import Final

from msgspec import Struct

from smtpgate.core.watch.profile import Observation

_MAX_ADDRESSES: Final = 5_000
_MAX_OWNERS: Final = 16


class UseOfKey(Struct, frozen=True, gc=False, array_like=True):
    """An observation of a key; ``owners`` are the accounts whose identities served From."""

    key_id: str
    observation: Observation
    owners: tuple[str, ...] = ()


class _Sum:
    """Observations that are alike, while they are added up."""

    __slots__ = ("addresses", "bounced", "first", "messages", "outside", "owners", "recipients",
                 "refused")  # fmt: skip

    def __init__(self, first: UseOfKey) -> None:
        self.first = first
        self.owners = first.owners
        self.addresses: list[int] = []
        self.messages = self.recipients = self.refused = self.bounced = self.outside = 0

    def add(self, use: UseOfKey) -> None:
        its = use.observation
        self.messages += its.messages
        self.recipients += its.recipients
        self.refused += its.refused
        self.bounced += its.bounced
        self.outside += its.outside
        if its.addresses and len(self.addresses) < _MAX_ADDRESSES:
            self.addresses += its.addresses
        if use.owners != self.owners:
            self.owners = tuple(sorted({*self.owners, *use.owners})[:_MAX_OWNERS])

    def use(self) -> UseOfKey:
        its = self.first.observation
        return UseOfKey(
            self.first.key_id,
            Observation(
                hour=its.hour,
                network=its.network,
                authors=its.authors,
                messages=self.messages,
                recipients=self.recipients,
                addresses=tuple(self.addresses),
                refused=self.refused,
                bounced=self.bounced,
                outside=self.outside,
            ),
            self.owners,
        )


class Batch:
    """Adds up observations of the same key, hour, network and From addresses."""

    def __init__(self, max_rows: int) -> None:
        """Rows beyond the bound are not kept."""
        self._max_rows = max_rows
        self._sums: dict[tuple[object, ...], _Sum] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, use: UseOfKey) -> None:
        """Add a use."""
        its = use.observation
        alike = (use.key_id, its.hour, its.network, its.authors)
        found = self._sums.get(alike)
        if found is None:
            if len(self._sums) >= self._max_rows:
                return
            found = self._sums[alike] = _Sum(use)
        found.add(use)

    def take(self) -> list[UseOfKey]:
        """The rows, which it has no longer."""
        sums, self._sums = self._sums, {}
        return [one.use() for one in sums.values()]
