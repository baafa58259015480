from typing import Any

import pytest
from msgspec.structs import fields as fields_of

from smtpgate.core.arn import IdentityArn
from smtpgate.core.message.headers import split_message
from smtpgate.core.message.intent import IntentError, SendingIntent, take_intent
from tests.support.cases import load_cases
from tests.support.rows import rows

READ = load_cases("intent/10-read.toml")
REFUSED = load_cases("intent/20-refused.toml")
ID = "arn:aws:ses:us-east-1:888888888888:identity"


def wanted(case: dict[str, Any]) -> SendingIntent:
    said: dict[str, Any] = {}
    for field in fields_of(SendingIntent):
        if not field.name.endswith("_arn"):
            continue
        want = case.get(field.name)
        said[field.name] = want and IdentityArn.parse(want.replace("{id}", ID))
    said["configuration_set"] = case.get("configuration_set", "")
    said["tags"] = tuple((name, tuple(values)) for name, *values in case.get("tags", ()))
    return SendingIntent(**said)


@rows("case", READ, ids=lambda case: case["note"])
def test_the_intent_is_read_and_taken_out(case: dict[str, Any]) -> None:
    text = case["fields"].replace("{id}", ID).replace("\n", "\r\n")
    intent, block = take_intent(split_message(text.encode()).block)
    assert intent == wanted(case)
    assert [field.name.decode() for field in block.fields] == case["left"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["note"])
def test_a_value_that_is_no_identity_arn_is_refused(case: dict[str, Any]) -> None:
    block = split_message(case["field"].encode()).block
    with pytest.raises(IntentError) as caught:
        take_intent(block)
    assert case["says"] in str(caught.value)
    assert caught.value.field in case["field"]


def test_octets_that_are_no_text_are_shown_and_refused() -> None:
    block = split_message(b"X-SES-FROM-ARN: \xff\xfe" + b"x" * 200 + b"\r\n").block
    with pytest.raises(IntentError, match=r"Invalid ARN <\\xff\\xfexxx") as caught:
        take_intent(block)
    assert len(str(caught.value)) < 200


def test_a_block_without_such_fields_is_handed_back_as_it_is() -> None:
    block = split_message(b"Subject: x\r\n\r\n").block
    intent, left = take_intent(block)
    assert intent == SendingIntent()
    assert left is block
