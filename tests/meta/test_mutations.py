"""The planted mistakes of the policy engine can be planted: each text is in its file once."""

from tests.mutation.mutate import mutations


def test_every_mistake_has_its_place_in_the_engine() -> None:
    assert list(mutations())
