"""Published faults of other mail software, tried on the gate."""

import re
import tomllib
from collections.abc import Iterator
from datetime import date
from itertools import chain, repeat
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.message.headers import split_message
from smtpgate.core.secret import Secret
from smtpgate.core.signing import signature_fields
from smtpgate.core.upstream import CommandError, Failed, Send, Step, Terms, UpstreamSession
from smtpgate.demo.verify import verify
from tests.support.cases import CASES, load_cases
from tests.support.dialog import Dialog, play_text
from tests.support.dkim import DOMAIN, NOW, rsa_key, txt
from tests.support.inprocess import ARNS, client_tls, facts, login, open_gate, send
from tests.support.rows import rows

SESSIONS: Final = sorted((CASES / "advisories").glob("1*.toml"))
UPSTREAMS: Final = [
    case for case in load_cases("advisories/20-upstreams.toml") if "octets" in case
]
RECIPIENTS: Final = [
    case for case in load_cases("advisories/20-upstreams.toml") if "recipient" in case
]
SIGNATURES: Final = load_cases("advisories/30-signatures.toml")
SMALL: Final = "max_message_octets = 100000"
BODY: Final = "Hello Jane.\r\n"
TEXTS: Final = {
    "addresses": "marketing@ses-example.com,\r\n " * 2_000,
    "comments": "(\r\n " * 1_500,
    "groups": "a:\r\n " * 1_500,
    "long": "x" * 20_000,
}
_KEYS: Final = {"id", "also", "date", "source", "unknown", "note"}
_NAMED: Final = re.compile(r"CVE-\d+-\d+|GHSA(?:-[0-9a-z]{4}){3}")


def message_of(case: dict[str, Any]) -> str:
    many = "".join(f"To: jane{n}@example.net\r\n" for n in range(case.get("field_count", 1)))
    author = f"From: {case['from']}\r\n" if "from" in case else ""
    others = f"{ARNS}{case.get('fields', '')}"
    head = f"{case.get('first', '')}{others}{author}{many}Subject: x\r\n\r\n"
    body = f"{'x' * case.get('body_octets', 0)}{BODY}"
    return Template(head).safe_substitute(TEXTS) + body


async def say_all(case: dict[str, Any], dialog: Dialog) -> None:
    if "flood" in case:
        await dialog.send(b"x" * case["flood"])
    if "dialog" in case:
        await play_text(dialog, case["id"], case["dialog"], facts() | TEXTS, client_tls())
    elif "repeats" in case:
        replies = [await dialog.say(case["repeats"])]
        while replies[-1].startswith("250") and len(replies) < 1000:
            replies.append(await dialog.say(case["repeats"]))
        assert replies[-1].startswith(case["says"]), replies[-1]
    else:
        sender = case.get("sender", "marketing@ses-example.com")
        to = (case.get("to", "jane@example.net"),)
        parameters = case.get("parameters", "")
        message = message_of(case)
        reply = await send(dialog, message, sender=sender, to=to, parameters=parameters)
        assert reply.startswith(case["says"]), reply


@pytest.mark.slow
@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
async def test_a_client_gets_nothing_by_it(
    path: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    async with open_gate(tmp_path, gate=SMALL) as (gate, sink):
        for case in load_cases(f"advisories/{path.name}"):
            with subtests.test(case["id"]):
                sink.messages.clear()
                if "listener" in case:
                    dialog = await Dialog.open(gate.listeners[case["listener"]].port)
                else:
                    dialog = await login(gate)
                await say_all(case, dialog)
                relayed = [list(kept.recipients) for kept in sink.messages]
                assert relayed == case.get("relayed", [])
                wanted = case.get("holds", "").encode()
                assert all(wanted in kept.content for kept in sink.messages)


def upstream_session(terms: dict[str, Any]) -> UpstreamSession:
    return UpstreamSession(
        Terms(name="next", helo="gate.example.com", password=Secret("x"), **terms)
    )


def exchange(session: UpstreamSession, case: dict[str, Any]) -> Iterator[Step]:
    """The gate with such an upstream."""
    endless = repeat(case["endless"], 10_000) if "endless" in case else ()
    for octets in chain(case["octets"], endless):
        yield from session.receive(octets.encode())
    if "breaks" in case:
        yield from session.hung_up(case["breaks"])
        yield from session.receive(b"250 mx\r\n")


@rows("case", UPSTREAMS, ids=lambda case: case["id"])
def test_an_upstream_gets_nothing_by_it(case: dict[str, Any]) -> None:
    session = upstream_session({"tls": "required"} | case.get("terms", {}))
    steps = list(exchange(session, case))
    (failure,) = [step for step in steps if isinstance(step, Failed)]
    assert case["says"] in str(failure.error)
    assert [step.octets.decode() for step in steps if isinstance(step, Send)] == case["sent"]


@pytest.mark.parametrize("case", RECIPIENTS, ids=lambda case: case["id"])
def test_a_recipient_stays_one_argument_of_one_command(case: dict[str, Any]) -> None:
    session = upstream_session({"tls": "off"})
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250 PIPELINING\r\n")
    envelope = Envelope.of(ReversePath(None), [Mailbox(case["recipient"], "example.net")])
    if "command" not in case:
        with pytest.raises(CommandError):
            session.begin(envelope, [b"Subject: x\r\n\r\n"])
        return
    (step,) = session.begin(envelope, [b"Subject: x\r\n\r\n"])
    assert step == Send(f"MAIL FROM:<>\r\n{case['command']}DATA\r\n".encode())


@rows("case", SIGNATURES, ids=lambda case: case["id"])
def test_a_signature_does_not_cover_what_was_changed(case: dict[str, Any]) -> None:
    cut = split_message(
        b"From: Marketing <marketing@ses-example.com>\r\nTo: jane@example.net\r\n"
        b"Subject: Spring\r\nContent-Type: text/html\r\n\r\n<p>Hello Jane.</p>\r\n"
    )
    (field,) = signature_fields(cut.block, cut.body, domain=DOMAIN, keys=[rsa_key()], now=NOW)
    message = b"".join([*cut.block.with_first(field).raw_parts, b"\r\n", cut.body])
    assert verify(message, txt)
    changed = case.get("on_top", "").encode() + message + case.get("appended", "").encode()
    assert not verify(changed, txt)
    tags = re.findall(rb"(?:^|;)\s*([a-z]+)=", field.value)
    assert not {tag.encode() for tag in case.get("lacks", [])} & set(tags)


def all_rows() -> list[dict[str, Any]]:
    files = sorted((CASES / "advisories").glob("*.toml"))
    return [row for path in files for row in tomllib.loads(path.read_text("utf-8"))["case"]]


def test_every_advisory_has_its_name_and_our_words_for_it() -> None:
    rows = all_rows()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert {"id", "date", "note"} <= set(row)
        assert set(row) - _KEYS, row["id"]


def test_every_advisory_names_its_source_or_says_what_is_unknown() -> None:
    for row in all_rows():
        if "unknown" in row:
            assert row["unknown"].strip(), row["id"]
            assert re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", row["date"]), row["id"]
        else:
            date.fromisoformat(row["date"])
        assert row["source"].startswith("https://") if "source" in row else "unknown" in row
        names = {row["id"].partition(" (")[0], *row.get("also", [])}
        assert set(_NAMED.findall(row.get("source", ""))) <= names, row["id"]
