"""Parts of a document that are equal if they are written alike, whatever was made of them."""

from msgspec import Struct


class Written(Struct, frozen=True, gc=False):
    """A part of a document; it adds what it was made into for decisions."""

    def written(self) -> tuple[object, ...]:
        """The fields by which it is compared."""
        return ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.written() == other.written()

    def __hash__(self) -> int:
        return hash(self.written())
