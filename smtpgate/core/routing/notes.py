"""Notes about upstreams that other workers need: each has connections of its own."""

from typing import TypeAlias

from msgspec import Struct


class UpstreamFailed(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """An upstream failed so often that it gets no messages, for that problem at last."""

    upstream: str
    problem: str


class RecipientLimitSeen(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """An upstream takes no more than so many recipients in a transaction."""

    upstream: str
    limit: int


RelayNote: TypeAlias = UpstreamFailed | RecipientLimitSeen
