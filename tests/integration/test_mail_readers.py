"""The gate's reading of From and Sender against readers of npm and Perl."""

import pytest

from tests.support.mailreaders import (
    Accepted,
    accepted,
    differences,
    node_readers,
    perl_readers,
    python_readers,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def messages() -> list[Accepted]:
    found = list(accepted(values=8000, blocks=6000))
    assert len(found) > 5000
    return found


def test_programs_of_npm_find_the_same_mailboxes(messages: list[Accepted]) -> None:
    found = node_readers(messages)
    assert set(found) == {"mailparser", "postal-mime"}
    for reader, addresses in found.items():
        assert differences(messages, addresses) == [], reader


def test_programs_in_perl_find_the_same_mailboxes(messages: list[Accepted]) -> None:
    found = perl_readers(messages)
    assert set(found) == {"MailTools", "Dovecot"}
    for reader, addresses in found.items():
        assert differences(messages, addresses) == [], reader


@pytest.mark.parametrize("reader", python_readers())
def test_programs_in_python_find_the_same_mailboxes(
    messages: list[Accepted], reader: str
) -> None:
    read = python_readers()[reader]
    assert differences(messages, [read(one) for one in messages]) == []
