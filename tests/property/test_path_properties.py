"""Nearly all paths are plain and are read in one step; they mean the same read by parts."""

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.address import (
    AddressError,
    Mailbox,
    parse_forward_path,
    parse_reverse_path,
)
from smtpgate.core.message.envelope import Recipient
from smtpgate.smtp.command import BadCommandError, parse_rcpt

paths = st.lists(
    st.sampled_from(
        ["a", "Z9", "a" * 60, "1" * 130, "é", "xn--", "example.com", *"@@.-_+!%", '"']
    ),
    min_size=1,
    max_size=8,
).map("".join)


def forward(text: str) -> Mailbox | None:
    try:
        return parse_forward_path(text)
    except AddressError:
        return None


def reverse(text: str) -> Mailbox | str | None:
    try:
        return parse_reverse_path(text)
    except AddressError as error:
        return str(error)


def recipient(argument: str) -> Recipient | None:
    try:
        return parse_rcpt(argument.encode(), smtputf8=True)
    except BadCommandError:
        return None


@given(paths)
@example("a@example.com")
@example("A.b@EXAMPLE.com")
@example("a@xn--bcher-kva.example")
@example("a@xn--a.example")
@example("a!b%c@example.com")
@example("a@exa_mple.com")
@example("a" * 242 + "@example.com")
@example("a" * 243 + "@example.com")
def test_a_path_in_brackets_is_read_as_without_them(text: str) -> None:
    assert forward(f"<{text}>") == forward(text)
    assert reverse(f"<{text}>") == reverse(text)
    mailbox = forward(text)
    wanted = None if mailbox is None else Recipient(mailbox)
    for before in ("TO:", "to: "):
        assert recipient(f"{before}<{text}>") == wanted
