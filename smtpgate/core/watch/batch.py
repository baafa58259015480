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


class Batch:
    """Adds up observations of the same key, hour, network and From addresses."""

    def __init__(self, max_rows: int) -> None:
        """Rows beyond the bound are not kept; ``lost`` counts their messages."""
        self.lost = 0
        self._max_rows = max_rows
        self._rows: dict[tuple[object, ...], UseOfKey] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, use: UseOfKey) -> None:
        """Add a use."""
        its = use.observation
        place = (use.key_id, its.hour, its.network, its.authors)
        before = self._rows.get(place)
        if before is not None:
            self._rows[place] = _sum(before, use)
        elif len(self._rows) < self._max_rows:
            self._rows[place] = use
        else:
            self.lost += its.messages

    def take(self) -> list[UseOfKey]:
        """The rows, which it has no longer."""
        rows, self._rows = self._rows, {}
        return list(rows.values())


def _sum(one: UseOfKey, other: UseOfKey) -> UseOfKey:
    mine, its = one.observation, other.observation
    owners = one.owners
    if other.owners != owners:
        owners = tuple(sorted({*owners, *other.owners})[:_MAX_OWNERS])
    return UseOfKey(
        one.key_id,
        Observation(
            hour=mine.hour,
            network=mine.network,
            authors=mine.authors,
            messages=mine.messages + its.messages,
            recipients=mine.recipients + its.recipients,
            addresses=(mine.addresses + its.addresses)[:_MAX_ADDRESSES],
            refused=mine.refused + its.refused,
            bounced=mine.bounced + its.bounced,
            outside=mine.outside + its.outside,
        ),
        owners,
    )
