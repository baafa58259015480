"""The gate's reading of From and Sender against Python's two readers.

`tests/integration/test_mail_readers.py` has readers of npm and Perl.
"""

import pytest

from tests.support.mailreaders import Accepted, accepted, differences, python_readers


@pytest.fixture(scope="module")
def messages() -> list[Accepted]:
    found = list(accepted(values=1000, blocks=1000))
    assert len(found) > 700
    return found


@pytest.mark.parametrize("reader", python_readers())
def test_an_accepted_message_is_from_the_same_mailboxes_for_another_reader(
    messages: list[Accepted], reader: str
) -> None:
    read = python_readers()[reader]
    assert differences(messages, [read(one) for one in messages]) == []
