import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.message import address_fields
from smtpgate.core.message.address_fields import unqualified_address
from smtpgate.core.message.headers import Field, HeaderBlock
from tests.support.rows import rows

PIECES = [b"a", b"@", b"a@b", b"<", b">", b'"', b"(", b")", b"[", b"]", b",", b";", b":", b" "]
values = st.lists(st.sampled_from([*PIECES, b"\\", b"=?x?q?a,b?=", b"\r\n "]), max_size=20).map(
    b"".join
)


def found(value: bytes) -> tuple[str, str] | None:
    return unqualified_address(HeaderBlock((Field(b"to", b"To: " + value + b"\r\n"),)))


@given(values | st.binary(max_size=40))
def test_any_octets_are_read_and_the_short_way_agrees_with_the_long_one(value: bytes) -> None:
    fast = found(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address_fields, "_PLAIN", re.compile(rb"(?!)"))
        assert found(value) == fast


@given(st.lists(st.sampled_from([b"a@b", b"N <a@b>", b'"x, y" <a@b>', b"", b"g: a@b;"])))
def test_a_list_of_whole_addresses_is_left_alone_until_one_lacks_its_domain(
    items: list[bytes],
) -> None:
    assert found(b", ".join(items)) is None
    assert found(b", ".join([*items, b"carol"])) == ("To", "carol")


@rows(
    "piece",
    [b'"\\', b"(\\", b"(", b"<", b"[", b"=?a", b"=?a?q?", b'a@b "', b"a@b,", b" ", b"a"],
)
def test_a_field_of_any_form_takes_no_more_than_linear_time(piece: bytes) -> None:
    value = piece * (20_000 // len(piece))
    started = time.process_time()
    found(value)
    assert time.process_time() - started < 1
