"""A message in chunks, whatever the server says between them, and whenever it says it.

Octets leave in their order, and replies may come at any moment: the verdict must follow from
what left and what was said, and a message is in doubt exactly when its last octet left and no
verdict on it came.
"""

from dataclasses import dataclass, field
from typing import Literal

from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import (
    Answered,
    Done,
    Failed,
    InDoubt,
    Send,
    SendMessage,
    Step,
    Terms,
    UpstreamSession,
)

MESSAGE = [b"A: b\r\n\r\n", b"x" * 200_000, b"y" * 200_000, b"z" * 200_000]
BOB = Envelope.of(ReversePath(None), [Mailbox("bob", "example.net")])
CHUNKS = 3

# The owner of the socket writes the next chunk, or the last octets of the last one leave; the
# server replies, says something that is no reply, or closes the connection; nothing more comes.
Event = Literal["write", "leave", "yes", "no", "not now", "bye", "junk", "close", "time"]
REPLIES = {
    "yes": b"250 2.0.0 ok\r\n",
    "no": b"552 5.3.4 too big\r\n",
    "not now": b"452 4.3.1 disk full\r\n",
    "bye": b"421 4.3.2 stopping\r\n",
    "junk": b"hello\r\n",
}
events = st.lists(
    st.sampled_from(["write", "write", "leave", "yes", "yes", *Event.__args__]),  # type: ignore[attr-defined]
    max_size=16,
)


@dataclass
class Exchange:
    """The session, and what was so."""

    session: UpstreamSession
    chunks: list[bytes] = field(default_factory=list)
    written: int = 0
    has_left: bool = False
    answered: list[bool] = field(default_factory=list)  # the replies to chunks, in their order
    was_last_answered: bool = False
    steps: list[Step] = field(default_factory=list)

    @property
    def result(self) -> Step | None:
        """The end of the transaction."""
        return next((one for one in self.steps if isinstance(one, Done | Failed)), None)

    def happen(self, event: Event) -> None:
        """Let that happen, as far as it can."""
        session = self.session
        if event == "write":
            self.write()
        elif event == "leave":
            if self.written == CHUNKS and self.result is None:
                self.has_left = True
                session.message_sent()
        elif event == "close":
            self.steps += session.hung_up("it closed the connection")
        elif event == "time":
            self.steps += session.timed_out("within 5 s")
        else:
            self.reply(event)

    def write(self) -> None:
        """Write the next chunk, by the rules of the session."""
        is_last = self.written == CHUNKS - 1
        may_write = self.result is None and self.session.wants_chunks
        if self.chunks and may_write and not (is_last and self.session.replies_due):
            self.chunks.pop(0)
            self.written += 1
            self.session.chunk_written(is_last=is_last)

    def reply(self, event: Event) -> None:
        """Have the server say something."""
        is_reply = event in ("yes", "no", "not now")
        is_due = self.result is None and self.session.wants_chunks
        if is_reply and is_due and len(self.answered) < self.written:
            self.answered.append(event == "yes")
        self.steps += self.session.receive(REPLIES[event])


def exchange(happening: list[Event]) -> Exchange:
    """All of it, and then the end of the connection."""
    session = UpstreamSession(Terms(name="next", helo="gate.example.com", tls="off"))
    session.receive(b"220 mx\r\n")
    session.receive(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    (begin,) = session.begin(BOB, MESSAGE)
    assert isinstance(begin, Send)
    assert b"DATA" not in begin.octets
    (step,) = session.receive(b"250 ok\r\n250 ok\r\n")
    assert isinstance(step, SendMessage)
    made = Exchange(session, [bytes(piece) for piece in step.pieces])
    assert len(made.chunks) == CHUNKS
    for event in happening:
        made.happen(event)
    made.happen("close")
    return made


@given(events)
@example(["write", "yes", "write", "yes", "write", "leave", "yes"])
@example(["write", "yes", "write", "yes", "write", "leave"])
@example(["write", "yes", "write", "yes", "write"])
@example(["write", "write", "no", "yes", "yes"])
def test_the_end_of_a_message_in_chunks_is_what_was_so(happening: list[Event]) -> None:
    made = exchange(happening)
    was_refused = False in made.answered
    all_taken = made.answered == [True] * CHUNKS
    match made.result:
        case Done(Answered() as delivery) if delivery.is_accepted:
            assert made.has_left
            assert all_taken
        case Done(Answered()):
            assert was_refused
        case Done(InDoubt()):
            assert made.has_left
            assert not was_refused
            assert not all_taken
        case Failed():
            assert not was_refused
            # A 421 in reply to the last chunk is a refusal.
            assert not made.has_left or "bye" in happening
        case None:
            raise AssertionError("no end")
    assert made.session.state == "closed"
    sent = [step.octets for step in made.steps if isinstance(step, Send)]
    assert sent in ([], [b"RSET\r\n"])
    assert bool(sent) <= was_refused
