from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.address import AddressError, Mailbox, ReversePath, parse_mailbox
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
    Ready,
    Send,
    SendMessage,
    SendWhole,
    StartTls,
    Step,
    Terms,
    UpstreamSession,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.commands import wire_octets, wire_pieces
from smtpgate.core.upstream.replies import Answer, ReplyReader

MESSAGE = [b"Subject: Spring\r\n\r\n", b".Hello\r\n"]
EXTENSIONS = [
    "PIPELINING",
    "SIZE 1000",
    "8BITMIME",
    "SMTPUTF8",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
    "CHUNKING",
    "BINARYMIME",
    "REQUIRETLS",
    "DSN",
]

mailboxes = st.sampled_from(
    [Mailbox(name, "example.net") for name in ("bob", "carol", "two words", "jörg")]
)
recipients = st.builds(
    Recipient,
    mailboxes,
    notify=st.sampled_from([frozenset(), frozenset({"NEVER"}), frozenset({"DELAY"})]),
    orcpt=st.sampled_from([None, "rfc822;a\0b+=@x", "utf-8;jörg@example.org"]),
)
envelopes = st.builds(
    Envelope,
    st.builds(ReversePath, st.none() | mailboxes),
    st.lists(recipients, min_size=1, max_size=4),
    smtputf8=st.booleans(),
    body_8bit=st.booleans(),
    body_binary=st.booleans(),
    require_tls=st.booleans(),
    envelope_id=st.sampled_from(["", "QQ\r\n3"]),
)
terms = st.builds(
    Terms,
    name=st.just("next"),
    helo=st.just("gate.example.com"),
    tls=st.sampled_from(["required", "opportunistic", "off"]),
    is_encrypted=st.booleans(),
    is_loopback=st.booleans(),
    username=st.sampled_from([None, "gate"]),
    password=st.just(Secret("tanstaaftanstaaf")),
)
# Replies that lead far, replies that are possible, and octets that are no reply.
likely = st.sampled_from(["220 mx", "250 2.1.0 ok", "250-one\r\n250 two", "334 Pw:", "235 in"])
possible = st.builds(
    "{}{}{}".format,
    st.integers(200, 599),
    st.sampled_from([" ", " 5.1.1 ", " 4.4.2 ", " 2.0.0 ", ""]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=5),
)
well_formed = (likely | possible).map(lambda text: text.encode() + b"\r\n")
offer = st.lists(st.sampled_from(EXTENSIONS), unique=True).map(
    lambda lines: (
        "".join(f"250-{line}\r\n" for line in ["mx", *lines]).encode() + b"250 HELP\r\n"
    )
)
prefixes = st.sampled_from(
    [
        [],
        [b"220 mx\r\n", b"250 mx\r\n"],
        [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n"],
        [b"220 mx\r\n", b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"],
        [b"220 mx\r\n", b"250-mx\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"],
        [b"220 mx\r\n", b"250 mx\r\n", b"250 a\r\n", b"250 b\r\n", b"354 go\r\n"],
    ]
)
replies = st.builds(list.__add__, prefixes, st.lists(offer | well_formed, max_size=12))
answers = st.builds(
    list.__add__,
    prefixes,
    st.lists(offer | well_formed | well_formed | st.binary(max_size=8), max_size=12),
)


@dataclass
class Conversation:
    """A session with a server that has its answers ready, whatever it is asked."""

    session: UpstreamSession
    envelope: Envelope
    split: Callable[[bytes], list[bytes]]
    steps: list[Step] = field(default_factory=list)

    def hold(self, answers: list[bytes]) -> None:
        """Receive the answers in turn, each whole before the next; then the server hangs up."""
        for answer in answers:
            for octets in self.split(answer):
                self.carry_out(self.session.receive(octets))
        self.carry_out(self.session.hung_up("it closed the connection"))

    def carry_out(self, steps: list[Step]) -> None:
        self.steps += steps
        for step in steps:
            match step:
                case StartTls():
                    self.carry_out(self.session.tls_started())
                case SendWhole():
                    self.session.message_sent()
                case SendMessage():
                    assert step.in_chunks, "it is binary, since it is small"
                    assert len(list(step.pieces)) == 1
                    self.session.chunk_written(is_last=True)
                    self.session.message_sent()
                case Ready():
                    self.begin()
                case _:
                    pass

    def begin(self) -> None:
        try:
            self.carry_out(self.session.begin(self.envelope, MESSAGE))
        except LacksExtensionError:
            assert self.session.state == "ready"

    @property
    def results(self) -> list[Step]:
        return [step for step in self.steps if isinstance(step, Done | Failed)]


def converse(
    terms: Terms,
    envelope: Envelope,
    answers: list[bytes],
    split: Callable[[bytes], list[bytes]] = lambda octets: [octets],
) -> Conversation:
    conversation = Conversation(UpstreamSession(terms), envelope, split)
    conversation.hold(answers)
    return conversation


def shown(steps: list[Step]) -> list[str]:
    """Steps as texts: errors and views compare by identity."""
    return [
        repr(b"".join(step.pieces)) if isinstance(step, SendMessage) else repr(step)
        for step in steps
    ]


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [bytes([octet]) for octet in octets]


@given(terms, envelopes, replies)
def test_one_chunk_equals_octet_by_octet(
    terms: Terms, envelope: Envelope, answers: list[bytes]
) -> None:
    whole = converse(terms, envelope, answers)
    split = converse(terms, envelope, answers, octet_by_octet)
    assert shown(whole.steps) == shown(split.steps)
    assert whole.session.state == split.session.state == "closed"


@given(terms, envelopes, answers)
def test_any_answer_leads_to_a_result_or_one_error(
    terms: Terms, envelope: Envelope, answers: list[bytes]
) -> None:
    conversation = converse(terms, envelope, answers)
    assert len(conversation.results) <= 1
    for step in conversation.results:
        if isinstance(step, Failed):
            assert isinstance(step.error, UpstreamUnavailableError)
    is_lacking = Ready() in conversation.steps and not any(
        isinstance(step, Send) and step.octets.startswith(b"MAIL")
        for step in conversation.steps
    )
    assert len(conversation.results) == (0 if is_lacking else 1)
    assert conversation.session.state == "closed"


@given(terms, envelopes, answers)
@example(
    Terms(name="next", helo="gate.example.com", tls="off"),
    Envelope.of(ReversePath(None), [Mailbox("bob", "example.net")]),
    [b"220 mx\r\n", b"250 mx\r\n", b"250 a\r\n", b"250 b\r\n", b"354 go\r\n", b"250 in\r\n"],
)
def test_accepted_and_in_doubt_need_the_message_to_be_sent_and_refused_never_hides_a_yes(
    terms: Terms, envelope: Envelope, answers: list[bytes]
) -> None:
    conversation = converse(terms, envelope, answers)
    sent = [step for step in conversation.steps if isinstance(step, SendWhole | SendMessage)]
    assert len(sent) <= 1
    for step in conversation.results:
        match step:
            case Done(InDoubt()):
                assert sent
            case Done(Answered() as delivery):
                assert delivery.is_accepted <= bool(sent)
                assert bool(sent) <= (not delivery.refused)
                assert len(delivery.recipients) in (0, len(envelope.recipients))


@given(terms, envelopes, answers)
def test_no_command_holds_a_control_octet_and_the_message_only_follows_354(
    terms: Terms, envelope: Envelope, answers: list[bytes]
) -> None:
    conversation = converse(terms, envelope, answers)
    for step in conversation.steps:
        if isinstance(step, Send):
            assert step.octets.endswith(b"\r\n")
            commands = step.octets[:-2].split(b"\r\n")
            assert all(octet >= 0x20 and octet != 0x7F for line in commands for octet in line)
            assert sum(command == b"DATA" for command in commands) <= 1
        elif isinstance(step, SendWhole) and not envelope.body_binary:
            assert any(answer.startswith(b"3") for answer in answers)


@given(st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_no_command_holds_cr_lf_or_nul_whatever_the_address(
    local_part: str, domain: str, is_sender: bool
) -> None:
    bob, other = Mailbox("bob", "example.net"), Mailbox(local_part, domain)
    session = UpstreamSession(Terms(name="next", helo="gate.example.com", tls="off"))
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n")
    try:
        (step,) = session.begin(
            Envelope.of(
                ReversePath(other if is_sender else bob), [bob if is_sender else other]
            ),
            MESSAGE,
        )
    except CommandError:
        assert session.state == "ready"
        return
    assert isinstance(step, Send)
    assert step.octets.count(b"\r\n") == step.octets.count(b"\r") == 3
    assert step.octets.count(b"\n") == 3
    assert b"\0" not in step.octets


@given(st.text(max_size=30))
@example('"a> SIZE=1"@example.com')
def test_what_is_parsed_as_an_address_makes_one_path(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressError:
        return
    session = UpstreamSession(Terms(name="next", helo="gate.example.com", tls="off"))
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250 SMTPUTF8\r\n")
    (step,) = session.begin(Envelope.of(ReversePath(mailbox), [mailbox]), MESSAGE)
    assert isinstance(step, Send)
    command = step.octets.decode().removesuffix("\r\n").removesuffix(" SMTPUTF8")
    assert command == f"MAIL FROM:<{mailbox}>"


# Octets that make lines with dots, and pieces that part them, likely.
dotty = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\r\n.", b"..", b"\r\n.\r\n"]),
    max_size=20,
).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """As a server takes it in (RFC 5321 §4.5.2): up to the final dot, doubled dots single."""
    octets = b"\r\n" + wire
    end = octets.index(b"\r\n.\r\n")
    assert end + 5 == len(octets)
    return octets[: end + 2].replace(b"\r\n.", b"\r\n")[2:]


@given(dotty, st.lists(st.integers(0, 100), max_size=6))
def test_a_message_arrives_as_it_was_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    places = sorted({cut % (len(message) + 1) for cut in cuts} | {0, len(message)})
    pieces = [message[a:b] for a, b in pairwise(places)]
    whole = b"".join(wire_pieces([message]))
    assert b"".join(wire_pieces(pieces)) == whole
    assert b"".join(wire_pieces([memoryview(piece) for piece in pieces])) == whole
    assert wire_octets([memoryview(piece) for piece in pieces]) == whole
    is_ended = message.endswith(b"\r\n") or not message
    assert unstuffed(whole) == message + (b"" if is_ended else b"\r\n")


@given(st.lists(well_formed | st.binary(max_size=10), max_size=6).map(b"".join))
def test_any_octets_are_replies_that_can_be_forget_soon_or_an_error(octets: bytes) -> None:
    reader = ReplyReader()
    for answer in reader.read(octets, 6):
        reply = answer.reply
        assert isinstance(reply, Reply)
        assert reply.text.isascii()
        assert reply.text.isprintable()
        assert reply.wire().endswith(b"\r\n")
    assert reader.problem.isprintable()


@given(
    st.lists(well_formed | st.binary(max_size=10), max_size=6).map(b"".join),
    st.lists(st.integers(0, 100), max_size=6),
)
def test_replies_are_the_same_however_they_are_cut(octets: bytes, cuts: list[int]) -> None:
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    reader, whole = ReplyReader(), ReplyReader()
    answers: list[Answer] = []
    for a, b in pairwise(places):
        if not reader.problem:
            answers += reader.read(octets[a:b], 6)
    assert answers == list(whole.read(octets, 6))
    assert (reader.problem, reader.has_rest) == (whole.problem, whole.has_rest)
