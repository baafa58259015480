"""Tags of resources, in AWS's bounds."""

import pytest

from smtpgate.core.tag import ResourceTagError, read_tags
from tests.support.rows import rows


def test_tags_at_the_bounds() -> None:
    assert read_tags([("k" * 128, "v" * 256), ("Größe", "")]) == {
        "k" * 128: "v" * 256,
        "Größe": "",
    }


@rows(
    "pairs, words",
    [
        ([("", "v")], "1 to 128"),
        ([("k" * 129, "v")], "1 to 128"),
        ([("a\x00", "v")], "1 to 128"),
        ([("AWS:a", "v")], "AWS's own"),
        ([("a", "v" * 257)], "at most 256"),
        ([("a", "b\nc")], "at most 256"),
        ([("a", "1"), ("a", "2")], "given twice"),
    ],
)
def test_what_cannot_be_a_tag(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(ResourceTagError, match=words):
        read_tags(pairs)
