"""Commands at a real terminal: what is shown there can be copied into the next command."""

import os
import pty
import re
import threading
from contextlib import suppress

import pytest

from tests.support.desk import Desk, read_all
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant
from tests.support.world import IDENTITY as ARN

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
USER = f"arn:aws:iam::{DELEGATE}:user/mailer"


@pytest.fixture
def stocked(desk: Desk) -> Desk:
    """A desk with an identity, and a user of another account that may use it."""
    for account in (OWNER, DELEGATE):
        desk.says("account", "create", account)
    desk.says("identity", "register", DOMAIN, "--trust")
    policy = desk.file("grant.json", grant())
    desk.says("identity", "policy", "put", DOMAIN, "marketing", policy)
    desk.says("user", "create", f"{DELEGATE}/mailer")
    return desk


SIMULATED = (
    *("simulate", "--as", f"{DELEGATE}/mailer", "--identity", ARN),
    *("--from", "marketing@ses-example.com", "--to", "jane@example.net"),
)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_what_commands_show_has_ids_arns_and_addresses_whole(
    stocked: Desk, columns: int
) -> None:
    key = stocked.answers("key", "create", f"{DELEGATE}/mailer")["id"]
    for words, whole in {
        SIMULATED: {ARN, USER, "marketing@ses-example.com:"},
        ("identity", "list"): {DOMAIN, "verified"},
        ("user", "list"): {f"{DELEGATE}/mailer"},
        ("key", "list"): {key},
        ("quota", "show", DELEGATE): {DELEGATE},
        ("audit", "list"): {DOMAIN, f"{DELEGATE}/mailer"},
    }.items():
        status, shown = stocked.at_terminal(*words, columns=columns)
        assert status == 0, shown
        shown = _ESCAPE.sub("", shown)
        assert "…" not in shown
        assert whole <= set(shown.split()), shown


def test_what_a_terminal_shows_is_read_whole_in_however_many_parts_it_comes() -> None:
    shown = b"".join(b"line %d\n" % number for number in range(5000))
    ours, theirs = pty.openpty()

    def show() -> None:
        with suppress(OSError), os.fdopen(theirs, "wb") as terminal:
            terminal.write(shown)

    writer = threading.Thread(target=show)
    writer.start()
    try:
        assert read_all(ours).replace(b"\r\n", b"\n") == shown
    finally:
        os.close(ours)  # a writer would wait for ever
        writer.join()
