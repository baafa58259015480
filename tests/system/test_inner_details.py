"""Stores and an upstream that fail with words of their insides: no reply repeats them."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.core.reason import REASONS
from smtpgate.core.upstream import Delivery, InDoubt, NotSent
from smtpgate.ports import (
    Begun,
    DirectoryUnavailableError,
    LedgerUnavailableError,
)
from tests.support.inprocess import login, open_gate, send

INSIDES: Final = (
    "/var/lib/smtpgate/ledger.sqlite: Error 111 connecting to db.internal.example:6379; asyncpg"
)
SECRET_WORDS: Final = ("/var", "sqlite", "111", "internal.example", "6379", "asyncpg")
UNREACHABLE: Final = NotSent("upstream-unreachable", INSIDES)
# The failing part, its error, the reply's code, the reason, and True if the log has the words.
FAILURES: Final[tuple[tuple[str, type[Exception] | Delivery | Begun, str, str, bool], ...]] = (
    ("directory.access_key", DirectoryUnavailableError, "451", "directory-unavailable", True),
    ("directory.identities", DirectoryUnavailableError, "451", "directory-unavailable", True),
    ("directory.identities", RuntimeError, "451", "internal-error", False),
    ("message_store.begin", LedgerUnavailableError, "451", "ledger-unavailable", True),
    ("message_store.begin", RuntimeError, "451", "internal-error", False),
    ("message_store.begin", Begun(None, INSIDES), "451", "journal-unavailable", True),
    ("upstream.deliver", UNREACHABLE, "451", "upstream-unreachable", True),
    ("upstream.deliver", InDoubt(INSIDES), "451", "in-doubt", True),
    ("upstream.deliver", RuntimeError, "451", "internal-error", False),
)


async def last_entry(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return next(line for line in reversed(lines) if line["event"] == "submission")


async def test_what_a_store_or_the_upstream_says_of_its_insides_is_in_the_log_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        for failing, error, code, reason, is_logged in FAILURES:
            dialog = await login(gate)
            part, _, method = failing.partition(".")

            async def fail(
                *_: object, error: type[Exception] | Delivery | Begun = error
            ) -> Delivery | Begun:
                if isinstance(error, type):
                    raise error(INSIDES)
                return error

            with monkeypatch.context() as patch:
                patch.setattr(getattr(gate, part), method, fail)
                reply = await send(dialog)
            assert reply.startswith(f"{code} 4."), failing
            assert f"({reason}; 0100" in reply, reply
            without_id = reply.rpartition("; 0100")[0]  # an id may have any digits
            assert not any(word in without_id for word in SECRET_WORDS), reply
            await gate.log.flush()
            entry = await last_entry(tmp_path)
            assert entry["reason"] == reason
            assert entry.get("detail", "") == (INSIDES if is_logged else ""), failing
        assert not sink.messages


def test_every_inner_failure_is_tried() -> None:
    tried = {reason for *_, reason, _ in FAILURES}
    assert tried | {"signing-failed"} == {code for code, row in REASONS.items() if row.is_inner}
