from typing import Any

import pytest

from smtpgate.core.message.address_fields import unqualified_address
from smtpgate.core.message.headers import split_message
from tests.support.cases import load_cases
from tests.support.rows import rows

FIELDS = ["To", "Cc", "Bcc", "Reply-To", "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-From"]
AS_THEY_COME = load_cases("address_fields/10-as-they-come.toml")
UNQUALIFIED = load_cases("address_fields/20-unqualified.toml")


def found(name: str, value: str) -> tuple[str, str] | None:
    text = f"From: a@example.com\n{name}: {value}\n\n".replace("\n", "\r\n")
    return unqualified_address(split_message(text.encode()).block)


@rows("case", AS_THEY_COME, ids=lambda case: case["note"])
def test_what_mail_programs_write_is_left_alone(case: dict[str, Any]) -> None:
    assert found("Cc", case["value"]) is None


@rows("case", UNQUALIFIED, ids=lambda case: case["note"])
def test_an_address_without_its_domain_is_found(case: dict[str, Any]) -> None:
    assert found("Cc", case["value"]) == ("Cc", case["shown"])


@rows("name", FIELDS)
def test_every_address_field_is_looked_at(name: str) -> None:
    assert found(name, "carol") == (name, "carol")


@pytest.mark.parametrize("name", ["Subject", "X-To", "Comments", "Errors-To"])
def test_other_fields_are_not(name: str) -> None:
    assert found(name, "carol") is None


@pytest.mark.parametrize(
    "recipients", [1, 20]
)  # short fields are remembered, long ones are not
def test_a_field_that_comes_again_has_the_same_answer(recipients: int) -> None:
    good = ", ".join(f"Carol <carol{number}@example.net>" for number in range(recipients))
    for _ in range(2):
        assert found("Cc", good) is None
        assert found("Cc", f"{good}, dave") == ("Cc", "dave")
        assert found("Reply-To", f"{good}, erin") == ("Reply-To", "erin")
