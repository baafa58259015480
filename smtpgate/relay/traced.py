"""The upstream's side of a session, as traces show it."""

from typing import Final

from smtpgate.core.sasl_mechanism import WITH_TOKEN
from smtpgate.core.transcript import Kind, command_text, octets_of, reply_texts
from smtpgate.core.upstream import Failed, Ready, Send, SendMessage, SendWhole, Step, Terms
from smtpgate.core.upstream.sasl import (
    login_response,
    plain_response,
    token_response,
)
from smtpgate.tracing import SERVED, SessionTranscript

_MASKED: Final = "*** (our login)"
_MOST_OCTETS: Final = 8192


def tracing(transcript: SessionTranscript, terms: Terms) -> "TracedConnection | None":
    """The trace of a connection that works for that session, if it is still wanted."""
    return TracedConnection(transcript, terms) if transcript.is_wanted else None


def trace_failure(upstream: str, terms: Terms, problem: str) -> None:
    """Show why a message did not get to an upstream, if this task's session is traced."""
    transcript = SERVED.get()
    if transcript is not None and transcript.is_wanted:
        texts = reply_texts(problem.encode(), login_secrets(terms))
        transcript.add_all("upstream", "note", texts, upstream)


def trace_nothing() -> None:
    """This task works for no session, whatever task began it."""
    _ = SERVED.set(None)


class TracedConnection:
    """The lines of one connection while it works for a session."""

    def __init__(self, transcript: SessionTranscript, terms: Terms) -> None:
        self._transcript = transcript
        self._name = terms.name
        self._secrets = login_secrets(terms)
        self._is_logging_in = False
        self._rest = b""

    def connected(self, peer: object) -> None:
        """The connection is open."""
        if isinstance(peer, tuple):
            self.note(f"connected to {peer[0]} port {peer[1]}")

    def note(self, text: str) -> None:
        """Show what happens to the connection."""
        self._add("note", text)

    def take_replies(self, octets: bytes) -> None:
        """Show replies, line by line."""
        octets = self._rest + octets
        whole, end, self._rest = octets.rpartition(b"\n")
        if len(self._rest) > _MOST_OCTETS:
            whole, end, self._rest = octets, b"", b""
        for text in reply_texts(whole + end, self._secrets):
            self._add("reply", text)

    def take_step(self, step: Step) -> None:
        """Show what goes out, and why a connection is of no use."""
        match step:
            case Send(octets):
                for line in octets.removesuffix(b"\r\n").split(b"\r\n"):
                    # A response has no blank in it, so it is never taken for AUTH.
                    text = _MASKED if self._is_logging_in else command_text(line)
                    self._is_logging_in |= line.startswith(b"AUTH ")
                    self._add("command", text)
            case SendWhole() | SendMessage():
                self._add("command", octets_of(step.octets, "a message"))
            case Ready():
                self._is_logging_in = False
            case Failed(error):
                for text in reply_texts(str(error).encode(), self._secrets):
                    self.note(text)

    def _add(self, kind: Kind, text: str) -> None:
        self._transcript.add("upstream", kind, text, self._name)


def login_secrets(terms: Terms) -> tuple[bytes, ...]:
    """Our password or token, in all forms in which a server may repeat it; long ones first."""
    found: list[bytes] = []
    username = terms.username or ""
    if terms.password is not None:
        found.append(plain_response(username, terms.password))
    if terms.token is not None:
        found += [
            token_response(mechanism, username, terms.token, terms.host, terms.port)
            for mechanism in WITH_TOKEN
        ]
    for secret in (terms.password, terms.token):
        if secret is not None:
            found += [login_response(secret).strip(), secret.value.encode()]
    return tuple(found)
