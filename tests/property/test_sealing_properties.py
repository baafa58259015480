"""A sealed secret opens in its place under its key, and nothing else ever opens."""

import base64
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smtpgate.directory.sealing import (
    MasterKeyError,
    MasterKeys,
    SealError,
    key_id_of,
    new_master_key,
)
from tests.support.rows import rows

IDS: Final = st.from_regex(r"\A[A-Za-z0-9._-]{1,32}\Z")
SECRETS: Final = st.binary(max_size=200)
PLACES: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ONE: Final = MasterKeys.parse(new_master_key("m1"))
SAME_NAME: Final = MasterKeys.parse(new_master_key("m1"))
OTHER: Final = MasterKeys.parse(new_master_key("m2"))


@given(SECRETS, PLACES, IDS)
def test_what_was_sealed_opens_in_its_place(secret: bytes, place: str, key_id: str) -> None:
    keys = MasterKeys.parse(new_master_key(key_id))
    sealed = keys.seal(secret, place)
    assert keys.open(sealed, place) == secret
    assert key_id_of(sealed) == key_id
    assert len(secret) < 8 or secret not in sealed


@given(SECRETS, PLACES, PLACES)
def test_it_opens_in_no_other_place(secret: bytes, place: str, other: str) -> None:
    assume(place != other)
    with pytest.raises(SealError):
        ONE.open(ONE.seal(secret, place), other)


@given(SECRETS, PLACES)
def test_it_opens_under_no_other_key(secret: bytes, place: str) -> None:
    for keys in (SAME_NAME, OTHER):
        with pytest.raises(SealError):
            keys.open(ONE.seal(secret, place), place)


@given(SECRETS, PLACES, st.data())
def test_a_bit_that_was_changed_keeps_it_shut(
    secret: bytes, place: str, data: st.DataObject
) -> None:
    sealed = bytearray(ONE.seal(secret, place))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << (at % 8)
    with pytest.raises(SealError):
        ONE.open(bytes(sealed), place)


@given(SECRETS, PLACES, st.data())
def test_what_was_cut_or_grew_keeps_shut(
    secret: bytes, place: str, data: st.DataObject
) -> None:
    sealed = ONE.seal(secret, place)
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    grown = sealed + data.draw(st.binary(min_size=1, max_size=4))
    for octets in (cut, grown):
        with pytest.raises(SealError):
            ONE.open(octets, place)


@given(st.binary(max_size=120), PLACES)
def test_any_other_octets_are_an_error_and_no_crash(octets: bytes, place: str) -> None:
    with pytest.raises(SealError):
        ONE.open(octets, place)


@given(SECRETS, PLACES)
def test_the_same_is_never_sealed_to_the_same(secret: bytes, place: str) -> None:
    assert ONE.seal(secret, place) != ONE.seal(secret, place)


@given(st.lists(IDS, min_size=1, max_size=4, unique=True), SECRETS)
def test_every_key_of_a_file_opens_and_the_first_one_seals(
    key_ids: list[str], secret: bytes
) -> None:
    lines = [new_master_key(key_id) for key_id in key_ids]
    keys = MasterKeys.parse("# made today\n\n" + "".join(lines))
    assert keys.ids == tuple(key_ids)
    assert key_id_of(keys.seal(secret, "x")) == keys.current == key_ids[0]
    for line in lines:
        assert keys.open(MasterKeys.parse(line).seal(secret, "x"), "x") == secret


@given(IDS)
def test_a_check_text_tells_the_same_key_from_one_of_the_same_name(key_id: str) -> None:
    line, other = new_master_key(key_id), new_master_key(key_id)
    check = MasterKeys.parse(line).check_text(key_id)
    assert MasterKeys.parse(line).is_same(check)
    assert not MasterKeys.parse(other).is_same(check)
    assert not OTHER.is_same(check)


KEY: Final = base64.b64encode(bytes(range(32))).decode()
FILES: Final = [
    ("", "holds no master key"),
    ("# m1 AAAA\n", "holds no master key"),
    (f"m1 {KEY}\nm 2 {KEY}\n", r"line 2: master key m is not 32 octets"),
    (f"m1 {KEY}\nm1 {KEY}\n", r"line 2: master key m1 stands twice"),
    (f"m1 {KEY}\n\nm2 {KEY[:-4]}\n", r"line 3: master key m2 is not 32 octets"),
    (f"m1 {KEY}AAAA\n", r"line 1: master key m1 is not 32 octets"),
    (f"{'m' * 33} {KEY}\n", r"line 1: an id has 1 to 32"),
    (f"ä {KEY}\n", r"line 1: an id has 1 to 32"),
    ("m1\n", r"line 1: master key m1 is not 32 octets"),
    (f"{KEY}\n", r"line 1: an id has 1 to 32"),
]


@rows("text, says", FILES, ids=[says for _, says in FILES])
def test_what_is_wrong_with_a_file_is_reported_without_the_key(text: str, says: str) -> None:
    with pytest.raises(MasterKeyError, match=says) as refusal:
        MasterKeys.parse(text)
    assert KEY[:12] not in str(refusal.value)


@given(st.text(max_size=80))
def test_any_text_is_a_file_or_an_error(text: str) -> None:
    try:
        MasterKeys.parse(text)
    except MasterKeyError:
        return


def test_keys_do_not_print() -> None:
    assert KEY not in repr(MasterKeys.parse(f"m1 {KEY}\n"))
