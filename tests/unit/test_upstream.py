import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import pytest

from smtpgate.core.address import Mailbox, ReversePath, parse_mailbox
from smtpgate.core.message.envelope import Envelope, Recipient
from smtpgate.core.reply import Reply
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import (
    Answered,
    CommandError,
    Done,
    Failed,
    InDoubt,
    LacksExtensionError,
    LoginRefusedError,
    Octets,
    Ready,
    RecipientReply,
    RefusedInPart,
    Send,
    SendMessage,
    SendWhole,
    StartTls,
    Step,
    Terms,
    UpstreamProtocolError,
    UpstreamSession,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.commands import wire_pieces
from smtpgate.core.upstream.session import TRANSITIONS
from smtpgate.core.upstream.steps import Due
from tests.support.cases import load_cases
from tests.support.rows import rows

OPENING = load_cases("upstream/10-opening.toml") + load_cases("upstream/15-logins.toml")
TRANSACTIONS = load_cases("upstream/20-transactions.toml")
MISFORTUNES = load_cases("upstream/30-misfortunes.toml")
CHUNKING = load_cases("upstream/50-chunking.toml")
OPTIONS = load_cases("upstream/60-options.toml") + load_cases("upstream/70-limits.toml")
MARK = re.compile(r"<[a-z ]+>")
MESSAGE = b"Subject: Spring\r\n\r\n.Hello Jane\r\n"


def terms_of(case: dict[str, Any]) -> Terms:
    given = {"name": "next", "helo": "gate.example.com", "tls": "off", **case.get("terms", {})}
    for name in ("password", "token"):
        if name in given:
            given[name] = Secret(given[name])
    return Terms(**given)


def envelope_of(case: dict[str, Any]) -> Envelope:
    sender = case.get("from", "alice@example.com")
    mailboxes = [parse_mailbox(text) for text in case.get("to", ["bob@example.net"])]
    options = {
        "smtputf8": case.get("smtputf8", False),
        "body_8bit": case.get("body_8bit", False),
        "body_binary": case.get("binary", False),
        **case.get("options", {}),
    }
    first = Recipient(mailboxes[0], frozenset(case.get("notify", ())), case.get("orcpt"))
    return Envelope(
        ReversePath(parse_mailbox(sender) if sender else None),
        (first, *map(Recipient, mailboxes[1:])),
        **options,
    )


def message_of(case: dict[str, Any]) -> bytes:
    if "octets" not in case:
        return MESSAGE
    octets = int(case["octets"])
    message = MESSAGE + b".0123456789\r\n" * (octets // 13)
    return message[: octets - 2] + (b"\0\n" if case.get("binary") else b"\r\n")


def opened(terms: Terms, offers: Sequence[str] = ()) -> UpstreamSession:
    """A session in which mail can be sent."""
    session = UpstreamSession(terms)
    session.receive(b"220 mx.example.net\r\n")
    lines = ["mx.example.net", *offers]
    reply = [f"250-{line}\r\n" for line in lines[:-1]] + [f"250 {lines[-1]}\r\n"]
    assert session.receive("".join(reply).encode()) == [Ready()]
    return session


def flights(dialog: str) -> Iterator[tuple[str, list[str]]]:
    """The dialogue as turns: who speaks, and the lines of one write or one arrival."""
    speaker, lines = "", list[str]()
    for line in dialog.splitlines():
        who, _, said = line.partition(": ")
        if lines and (who != speaker or MARK.fullmatch(said) or MARK.fullmatch(lines[-1])):
            yield speaker, lines
            lines = []
        speaker = who
        lines.append(said)
    if lines:
        yield speaker, lines


def server_says(session: UpstreamSession, lines: list[str]) -> list[Step]:
    match lines:
        case ["<hangs up>"]:
            return session.hung_up("it closed the connection")
        case ["<is silent>"]:
            return session.timed_out("within 5 s")
    octets = b""
    for line in lines:
        part = line.removeprefix("<octets> ")
        octets += part.encode() + (b"" if part != line else b"\r\n")
    return session.receive(octets)


def sent_at_once(step: Step) -> bytes:
    """The octets of a message that is not sent in chunks."""
    if isinstance(step, SendWhole):
        return step.wire
    assert isinstance(step, SendMessage)
    assert not step.in_chunks
    return b"".join(step.pieces)


class Player:
    """Plays a dialogue with a session."""

    def __init__(self, session: UpstreamSession, case: dict[str, Any]) -> None:
        self.session = session
        self.message = message_of(case)
        self.chunks: list[bytes] = []
        self.octets = b""

    def play(self, dialog: str, steps: list[Step]) -> list[Step]:
        """Go through the dialogue; the steps that are left at its end."""
        for who, lines in flights(dialog):
            if who == "C":
                steps = self.say(lines, steps)
            else:
                assert steps == []
                steps = server_says(self.session, lines)
        return steps

    def say(self, lines: list[str], steps: list[Step]) -> list[Step]:
        """Check that exactly this was to be said; what follows at once."""
        match lines:
            case ["<chunk>"] | ["<last chunk>"] | ["<half last chunk>"]:
                self.send_chunk(lines[0], steps)
                return []
        (step,) = steps
        match lines:
            case ["<tls>"]:
                assert step == StartTls()
                return self.session.tls_started()
            case ["<message>"] | ["<half message>"]:
                stuffed = self.message.replace(b"\n.", b"\n..") + b".\r\n"
                assert sent_at_once(step) == stuffed
                if lines == ["<message>"]:
                    self.session.message_sent()
                return []
            case ["<only chunk>"]:
                command = b"BDAT %d LAST\r\n" % len(self.message)
                assert sent_at_once(step) == command + self.message
                self.session.message_sent()
                return []
        assert step == Send("".join(f"{line}\r\n" for line in lines).encode())
        return []

    def send_chunk(self, mark: str, steps: list[Step]) -> None:
        if steps:
            (step,) = steps
            assert isinstance(step, SendMessage)
            assert step.in_chunks
            self.chunks = [bytes(piece) for piece in step.pieces]
        assert self.session.wants_chunks
        command, _, octets = self.chunks.pop(0).partition(b"\r\n")
        self.octets += octets
        is_last = "last" in mark
        assert command == b"BDAT %d" % len(octets) + (b" LAST" if is_last else b"")
        assert is_last is (not self.chunks)
        assert self.octets == self.message[: len(self.octets)]
        assert not is_last or self.octets == self.message
        self.session.chunk_written(is_last=is_last)
        if is_last and "half" not in mark:
            self.session.message_sent()


def play(session: UpstreamSession, case: dict[str, Any], steps: list[Step]) -> list[Step]:
    """Go through the dialogue of the case; the steps that are left at its end."""
    return Player(session, case).play(case["dialog"], steps)


def came_to(steps: list[Step]) -> str:
    match steps:
        case [Ready()]:
            return "ready"
        case [Done(InDoubt())]:
            return "in doubt"
        case [Done(Answered() as delivery)]:
            return "accepted" if delivery.is_accepted else "refused"
        case [Failed(UpstreamProtocolError())]:
            return "protocol"
        case [Failed(UpstreamUnavailableError())]:
            return "unavailable"
    return repr(steps)


def check_words(case: dict[str, Any], steps: list[Step]) -> None:
    match steps:
        case [Done(InDoubt(problem))]:
            assert case["says"] in problem
        case [Done(Answered() as delivery)]:
            assert delivery.upstream == "next"
            assert str(delivery.reply) == case["reply"]
            if "recipients" in case:
                replies = [str(entry.reply) for entry in delivery.recipients]
                assert replies == case["recipients"]
                named = [str(entry.mailbox) for entry in delivery.recipients]
                assert named == case.get("to", ["bob@example.net"])[: len(replies)]
        case [Failed(error, is_stale)]:
            assert case["says"] in str(error)
            assert is_stale is case.get("stale", False)
            assert error.delivery.cause == case["cause"]
            if "invalid" in case:
                assert isinstance(error, LoginRefusedError)
                assert error.is_invalid is case["invalid"]
            assert error.delivery.is_final is case.get("final", False)


@rows("case", OPENING, ids=lambda case: case["note"])
def test_a_connection_is_opened_as_the_dialogue_says(case: dict[str, Any]) -> None:
    session = UpstreamSession(terms_of(case))
    steps = play(session, case, [])
    assert came_to(steps) == case["result"]
    check_words(case, steps)
    is_ready = case["result"] == "ready"
    assert session.state == ("ready" if is_ready else "closed")
    if is_ready:
        assert sorted(session.extensions) == case["extensions"]


EXCHANGES = TRANSACTIONS + MISFORTUNES + CHUNKING + OPTIONS


@rows("case", EXCHANGES, ids=lambda case: case["note"])
def test_a_transaction_goes_as_the_dialogue_says(case: dict[str, Any]) -> None:
    session = opened(terms_of(case), case["offers"])
    if case["result"].startswith("lacks "):
        with pytest.raises(LacksExtensionError) as caught:
            session.begin(envelope_of(case), [message_of(case)])
        assert f"lacks {caught.value.extension}" == case["result"]
        assert str(caught.value).endswith(f"does not offer {caught.value.extension}")
    else:
        message = message_of(case)
        steps = session.begin(envelope_of(case), [message[:18], message[18:]])
        steps = play(session, case, steps)
        assert came_to(steps) == case["result"]
        check_words(case, steps)
    assert (session.state == "ready") is case.get("reusable", session.state == "ready")
    assert session.state in ("ready", "closed")


REUSABLE = [
    case
    for case in TRANSACTIONS + CHUNKING + OPTIONS
    if case.get("reusable") and case["dialog"]
]


@rows("case", REUSABLE, ids=lambda case: case["note"])
def test_a_connection_serves_one_transaction_after_another(case: dict[str, Any]) -> None:
    session = opened(terms_of(case), case["offers"])
    message = [message_of(case)]
    first = play(session, case, session.begin(envelope_of(case), message))
    assert play(session, case, session.begin(envelope_of(case), message)) == first


def test_the_table_of_transitions_has_a_row_for_every_reply_that_can_be_due() -> None:
    assert set(TRANSITIONS) == set(get_args(Due))
    assert all(set(row) <= {2, 3, 4, 5} for row in TRANSITIONS.values())


def test_what_an_idle_server_says_ends_the_connection_and_nothing_else() -> None:
    session = opened(terms_of({}))
    assert session.receive(b"421 4.4.2 idle too long\r\n") == []
    assert session.state == "closed"
    assert session.receive(b"250 ok\r\n") == []


def test_an_idle_server_may_hang_up() -> None:
    session = opened(terms_of({}))
    assert session.hung_up("it closed the connection") == []
    assert session.state == "closed"


def test_octets_before_the_handshake_are_no_part_of_it() -> None:
    session = UpstreamSession(terms_of({"terms": {"tls": "required"}}))
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250 STARTTLS\r\n")
    assert session.receive(b"220 go\r\n") == [StartTls()]
    assert came_to(session.receive(b"2")) == "protocol"


def test_a_handshake_that_does_not_end_is_given_up() -> None:
    session = UpstreamSession(terms_of({"terms": {"tls": "required"}}))
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250 STARTTLS\r\n")
    session.receive(b"220 go\r\n")
    (failed,) = session.timed_out("within 5 s")
    assert isinstance(failed, Failed)
    assert str(failed.error) == "upstream next: no answer to the TLS handshake within 5 s"


@pytest.mark.parametrize(
    ("reply", "result"),
    [(b"250 ok\r\n", "ready"), (b"451 no\r\n", "unavailable"), (b"421 bye\r\n", "unavailable")],
)
def test_a_server_that_answers_noop_serves_the_next_message(reply: bytes, result: str) -> None:
    session = opened(terms_of({}))
    assert session.check() == [Send(b"NOOP\r\n")]
    assert came_to(session.receive(reply)) == result
    assert (session.state == "ready") is (result == "ready")
    if result != "ready":
        with pytest.raises(RuntimeError):
            session.check()


def test_goodbye_is_said_and_its_answer_not_read() -> None:
    session = opened(terms_of({}))
    assert session.quit() == [Send(b"QUIT\r\n")]
    assert session.receive(b"221 bye\r\n") == []
    assert session.hung_up("it closed the connection") == []


def test_replies_due_count_down_as_they_come() -> None:
    session = opened(terms_of({}), ["PIPELINING"])
    session.begin(envelope_of({}), [MESSAGE])
    assert session.replies_due == 3
    session.receive(b"250 ok\r\n250 ok\r\n")
    assert session.replies_due == 1


def test_no_transaction_begins_within_another() -> None:
    session = opened(terms_of({}))
    session.begin(envelope_of({}), [MESSAGE])
    with pytest.raises(RuntimeError, match="no transaction can begin in the state busy"):
        session.begin(envelope_of({}), [MESSAGE])


def test_a_transaction_needs_a_recipient() -> None:
    session = opened(terms_of({}))
    with pytest.raises(CommandError, match="needs a recipient"):
        session.begin(Envelope.of(ReversePath(None), []), [MESSAGE])
    assert session.state == "ready"


@pytest.mark.parametrize(
    "mailbox",
    [
        Mailbox("bob\r\nDATA", "example.net"),
        Mailbox("bob", "example.net>\nRSET"),
        Mailbox("bo\0b", "example.net"),
        Mailbox("bo\x7fb", "example.net"),
        Mailbox("bo\x85b", "example.net"),
    ],
    ids=repr,
)
def test_no_address_can_smuggle_a_command(mailbox: Mailbox) -> None:
    session = opened(terms_of({}), ["SMTPUTF8"])
    for envelope in (
        Envelope.of(ReversePath(mailbox), [Mailbox("bob", "example.net")]),
        Envelope.of(ReversePath(None), [Mailbox("bob", "example.net"), mailbox]),
    ):
        with pytest.raises(CommandError, match="control characters"):
            session.begin(envelope, [MESSAGE])
        assert session.state == "ready"


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"helo": "gate\r\nRSET"}, "control characters"),
        ({"helo": ""}, "one name"),
        ({"helo": "gate example"}, "one name"),
        ({"helo": "gäte.example"}, "ASCII"),
        ({"username": "a\0b", "password": "c"}, "NUL"),
        ({"username": "a", "password": "c\0"}, "NUL"),
        ({"username": "a\1b", "token": "c"}, "control characters"),
        ({"username": "a", "token": "c d"}, "access token"),
        ({"username": "a", "token": "c\1"}, "access token"),
        ({"username": "a", "token": ""}, "access token"),
    ],
)
def test_terms_that_make_no_commands_cannot_be_made(terms: dict[str, str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        terms_of({"terms": terms})


def test_a_login_may_hold_any_text() -> None:
    session = UpstreamSession(
        terms_of(
            {"terms": {"is_loopback": True, "username": "jörg", "password": "ein\r\nWort"}}
        )
    )
    session.receive(b"220 mx\r\n")
    (step,) = session.receive(b"250-mx\r\n250 AUTH PLAIN\r\n")
    assert step == Send(b"AUTH PLAIN AGrDtnJnAGVpbg0KV29ydA==\r\n")


def test_a_delivery_says_who_was_refused_and_whether_it_was_accepted() -> None:
    yes, no = Reply(250, "2.0.0", "ok"), Reply(550, "5.0.0", "no")
    bob, carol = Mailbox("bob", "example.net"), Mailbox("carol", "example.net")
    one = RecipientReply(bob, yes)
    other = RecipientReply(carol, no)
    assert Answered("next", no, (one, other)).refused == (other,)
    assert not Answered("next", no, (one,)).is_accepted
    assert Answered("next", yes, (one,)).is_accepted


def test_pieces_may_be_views() -> None:
    session = opened(terms_of({}), ["PIPELINING", "SIZE"])
    pieces: list[Octets] = [b"A: b\r\n\r\n", memoryview(b"x.body\r\n")[1:]]
    (begin,) = session.begin(envelope_of({}), pieces)
    assert isinstance(begin, Send)
    assert b" SIZE=15\r\n" in begin.octets
    (step,) = session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert step == SendWhole(b"A: b\r\n\r\n..body\r\n.\r\n", 15)


@pytest.mark.parametrize("octets", [262_142, 262_143, 262_144, 262_145, 262_146, 600_000])
def test_a_dot_is_doubled_wherever_a_large_message_is_cut(octets: int) -> None:
    message = b"x" * (octets - 2) + b"\r\n.y\r\n" + b".z\r\n" * 100_000
    pieces = list(wire_pieces([message]))
    assert b"".join(pieces) == message.replace(b"\n.", b"\n..") + b".\r\n"
    assert max(map(len, pieces)) < 600_000


def test_the_last_chunk_waits_for_the_replies_to_the_others() -> None:
    session = opened(terms_of({}), ["PIPELINING", "CHUNKING"])
    session.begin(envelope_of({}), [b"x" * 600_000])
    session.receive(b"250 ok\r\n250 ok\r\n")
    session.chunk_written(is_last=False)
    with pytest.raises(RuntimeError, match="must wait"):
        session.chunk_written(is_last=True)


@pytest.mark.parametrize("behind", [b"", b"503 5.5.1 MAIL first\r\n503 5.5.1 RCPT first\r\n"])
def test_the_refusal_of_a_message_is_not_taken_for_that_of_the_next_one(behind: bytes) -> None:
    session = opened(terms_of({}), ["PIPELINING"])
    said = "550 5.7.1 Spam"
    session.begin(envelope_of({}), [MESSAGE])
    server_says(session, ["250 ok", "250 ok", "354 go on"])
    session.message_sent()
    assert came_to(server_says(session, [said])) == "refused"
    session.begin(envelope_of({}), [MESSAGE])
    (failed,) = session.receive(said.encode() + b"\r\n" + behind)
    assert isinstance(failed, Failed)
    assert "it repeated its last refusal" in str(failed.error)
    assert failed.is_stale, "a fresh connection shows whether the server means it"


def test_a_message_that_is_left_is_ended_by_rset_and_refused() -> None:
    case = {"to": ["bob@example.net", "carol@example.net"]}
    session = opened(terms_of({}), ["PIPELINING"])
    session.begin(envelope_of(case), [MESSAGE], may_be_in_part=True)
    (in_part,) = server_says(session, ["250 ok", "250 ok", "550 5.1.1 no such user"])
    assert isinstance(in_part, RefusedInPart)
    assert session.leave() == [Send(b"RSET\r\n")]
    (done,) = server_says(session, ["250 ok"])
    assert isinstance(done, Done)
    assert isinstance(done.delivery, Answered)
    assert not done.delivery.is_accepted
    assert session.state == "ready"
