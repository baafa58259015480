"""Cases for mistakes that no other test would notice."""

import pytest

from smtpgate.core.policy import PolicyError, parse_policy


def refusal(principal: str) -> str:
    text = '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "%s"}, "Action": "*", '
    with pytest.raises(PolicyError) as raised:
        parse_policy(text % principal + '"Resource": "*"}}', kind="identity", name="x")
    return str(raised.value)


@pytest.mark.parametrize(
    "principal",
    [
        "9999999999990",
        "arn:aws:iam::999999999999:root/x",
        "arn:aws:iam::999999999999:user/a b",
        "arn:aws:iam::999999999999:role/R:x",
        "arn:aws:sts::999999999999:assumed-role/R/s/t",
        "arn:aws:sts::999999999999:federated-user/a/b",
    ],
)
def test_a_principal_with_something_after_it_is_none(principal: str) -> None:
    assert "is no principal" in refusal(principal)
