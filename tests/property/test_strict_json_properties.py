"""The quick way through a document agrees with the strict one, or leaves it alone."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.policy import PolicyError, strict_json
from smtpgate.core.policy.strict_json import Json, parse_json
from tests.support.policies import json_values

PIECES = st.sampled_from(
    [*list('{}[],:" \t\n\\'), '"a"', '"b"', "1", "-0.5e3", "01", "NaN", "-Infinity", "true"]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    json_values.map(json.dumps),
    json_values.map(lambda value: json.dumps(value, ensure_ascii=False)),
)


def strictly(text: str) -> tuple[Json, tuple[str, ...]]:
    reader = strict_json._Reader(text)
    try:
        return reader.whole(), tuple(map(str, reader.repeated))
    except PolicyError as error:
        return None, tuple(map(str, [*reader.repeated, *error.problems]))


def as_read(text: str) -> tuple[Json, tuple[str, ...]]:
    try:
        value, repeated = parse_json(text)
    except PolicyError as error:
        return None, tuple(map(str, error.problems))
    return value, tuple(map(str, repeated))


@given(TEXTS)
@example('{"a": 1, "a": 2}')
@example("[NaN]")
@example("\ufeff{}")
@example("[" * 24 + "1" + "]" * 24)
@example("[" * 25 + "1" + "]" * 25)
@example("[" * 25 + "]" * 25)
@example("[" * 100_000)
@example('"\x01"')
@example("[1] x")
@example('"\\x"')
def test_both_readers_say_the_same(text: str) -> None:
    assert as_read(text) == strictly(text)


def test_half_a_surrogate_pair_is_refused_on_either_way() -> None:
    assert as_read('["\\ud800"]')[1] == (
        "line 1 column 2: a string contains half of a surrogate pair",
    )
