"""Listeners: sockets, TLS contexts, connection limits, and an orderly stop.

A listener accepts its connections itself, so that each is counted before it has cost anything,
and has to be ready for SMTP within a time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

from smtpgate.core.events import BudgetExhausted, HandshakeFailed, HandshakeProblem
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.limits.sums import Sums
from smtpgate.core.message.envelope import Client
from smtpgate.core.reply import CATALOGUE, reply_of
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.handshake import HANDSHAKE_S, handshake_problem
from smtpgate.smtp.proxied import ProxyError, read_header
from smtpgate.smtp.session import SmtpSession
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.smtp.sockets import ConnectionSlot, ConnectionSlots, Sockets
from smtpgate.smtp.traced import trace_stranger
from smtpgate.tasks import TaskOwner

_SEND_OCTETS: Final = 64 * 1024
# How long to wait when the system has no descriptor or memory for another socket.
_NO_ROOM_S: Final = 0.2
_TLS_SHUTDOWN_S: Final = 5.0


class Listener:
    """One bound socket with its sessions."""

    def __init__(
        self,
        parts: SessionParts,
        sockets: Sockets,
        source: "socket.socket | Listener",
        sums: Sums | None = None,
    ) -> None:
        """``source`` is the listening socket, or the listener that will hand it over."""
        self.parts = parts
        self.places = ConnectionSlots(parts.config, sockets, sums)
        self._listening: socket.socket | None = None
        if isinstance(source, Listener):
            self._port: int = source.port
        else:
            # Replies are short. By itself Linux keeps up to 4 MiB for a client that reads none.
            source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_OCTETS)
            source.setblocking(False)
            self._listening, self._port = source, source.getsockname()[1]
        self._successor: Listener | None = None
        self._sessions: set[Dialogue] = set()
        self._opening = TaskOwner()
        self._is_closed = self._is_closing_gently = False
        self._has_no_room = False
        self._retry: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port it is bound to (the system's choice where the configuration says 0)."""
        return self._port

    def start(self) -> None:
        """Take connections; clients that have connected already are waiting in the backlog."""
        self._accept_more()

    # -- accepting -----------------------------------------------------------------------------

    def _accept_more(self) -> None:
        self._retry = None
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """One connection; the loop calls again when there are more.

        One, because a flood of connections must leave the sessions their turn.
        """
        if self._listening is None:
            return
        try:
            connection, peer = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return  # none, or one that is closed already
        except OSError as error:
            self._wait_for_room(self._listening, error)
            return
        self._has_no_room = False
        connection.setblocking(False)
        client = Client(
            address=str(peer[0]).partition("%")[0],
            port=peer[1],
            listener=self.parts.config.name,
            protocol="SMTP",
        )
        self._admit(connection, client)

    def _wait_for_room(self, listening: socket.socket, error: OSError) -> None:
        """The system has no descriptor or memory left: try again, however long that takes."""
        if not self._has_no_room:
            self._has_no_room = True
            self.parts.on_error(error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._retry = loop.call_later(_NO_ROOM_S, self._accept_more)

    def _admit(self, connection: socket.socket, client: Client) -> None:
        place = self.places.take()
        if not isinstance(place, ConnectionSlot):
            self._turn_away(connection, client, place)
            return
        is_proxy = self._is_proxy(client.address)
        refusal = None if is_proxy else self._refusal_of(place, client)
        if refusal is not None:
            place.give_back()
            self._turn_away(connection, client, refusal)
            return
        _ = self._opening.start(self._open(connection, client, place, is_proxy=is_proxy))

    def _refusal_of(self, place: ConnectionSlot, client: Client) -> BudgetName | None:
        """The bound for which this client gets no session; otherwise its socket is counted."""
        if self.parts.bans.is_banned(client.address):
            return "banned"
        return place.name_client(client.address)

    def _is_proxy(self, address: str) -> bool:
        if not self.parts.config.proxy_from:
            return False
        known = ip_address(address)
        known = getattr(known, "ipv4_mapped", None) or known
        return any(known in network for network in self.parts.config.proxy_from)

    def _turn_away(self, connection: socket.socket, client: Client, budget: BudgetName) -> None:
        """Say why, where that can be read without TLS, and close."""
        if self.parts.config.tls != "implicit":
            with contextlib.suppress(OSError):
                connection.send(CATALOGUE[BUDGETS[budget].reply].wire())
        connection.close()
        self._note_exhausted(client, budget)

    def _note_exhausted(self, client: Client, budget: BudgetName) -> None:
        self.parts.events.publish(BudgetExhausted(client, self.parts.clock.now(), budget))
        if self.parts.tracer.traces:
            trace_stranger(self.parts.tracer, client, f"turned away: {budget}")

    def _note_failed(self, client: Client, problem: HandshakeProblem) -> None:
        self.parts.events.publish(HandshakeFailed(client, self.parts.clock.now(), problem))
        if self.parts.tracer.traces:
            trace_stranger(self.parts.tracer, client, f"TLS failed: {problem}")

    # -- from a socket to a session ------------------------------------------------------------

    async def _open(
        self,
        connection: socket.socket,
        client: Client,
        place: ConnectionSlot,
        *,
        is_proxy: bool,
    ) -> None:
        """Read the PROXY header and shake hands, within the time for both."""
        config, session = self.parts.config, None
        must_wait = is_proxy or config.tls == "implicit"
        try:
            async with asyncio.timeout(config.handshake_timeout_s if must_wait else None):
                if is_proxy:
                    client = await _behind_proxy(connection, client)
                    refusal = self._refusal_of(place, client)
                    if refusal is not None:
                        self._turn_away(connection, client, refusal)
                        return
                if config.tls == "implicit":
                    await _readable(connection)
                    await self.parts.turns.step(cost_s=HANDSHAKE_S)
                session = SmtpSession(self.parts, self, client, place)
                await self._shake_hands(connection, session)
        except TimeoutError:
            self._note_exhausted(client, "handshake-time")
        except ProxyError:
            self._note_failed(client, "no-proxy-header")
        except OSError as error:  # closed without a word: there is none that it could read
            self._note_failed(client, handshake_problem(error))
        finally:
            if session is None:
                connection.close()
            if session is None or not self._has(session):
                place.give_back()

    async def _shake_hands(self, connection: socket.socket, session: SmtpSession) -> None:
        """Give the socket to the event loop, which shakes hands and begins the session."""
        config, loop = self.parts.config, asyncio.get_running_loop()
        tls: dict[str, Any] = {}
        if config.tls != "implicit" and config.early_talkers == "refuse":
            session.is_early = _has_octets(connection)
        if config.tls == "implicit":
            tls = {
                "ssl": self.parts.tls and self.parts.tls.context,
                # Later than our own time-out, so that there is one only.
                "ssl_handshake_timeout": config.handshake_timeout_s + _TLS_SHUTDOWN_S,
                "ssl_shutdown_timeout": _TLS_SHUTDOWN_S,
            }
        try:
            await loop.connect_accepted_socket(lambda: session, connection, **tls)
        except BaseException:
            # The event loop closes the socket, and uvloop reports that to no session.
            session.connection_lost(None)
            raise

    # -- what sessions call --------------------------------------------------------------------

    def enter(self, session: Dialogue) -> None:
        """The session has begun."""
        if self._successor is not None:
            session.take_over(self._successor.parts, self._successor)
            self._successor.enter(session)
            return
        self._sessions.add(session)
        if self._is_closed:
            session.drain()
        elif self._is_closing_gently:
            session.drain_after_first()

    def leave(self, session: Dialogue) -> None:
        """The session's socket is closed."""
        self._sessions.discard(session)
        session.place.give_back()

    @property
    def sessions(self) -> Sequence[Dialogue]:
        """The sessions that are open now, also of a listener that took over from this one."""
        newest = self
        while newest._successor is not None:
            newest = newest._successor
        return tuple(newest._sessions)

    @property
    def has_sessions_of_its_own(self) -> bool:
        """True while a session goes on with the parts of this listener."""
        newest = self
        while newest._successor is not None:
            newest = newest._successor
        return any(one.parts is self.parts for one in newest._sessions)

    def _has(self, session: Dialogue) -> bool:
        """True if the session has begun, and not ended."""
        if session in self._sessions:
            return True
        return self._successor is not None and self._successor._has(session)

    # -- another configuration -----------------------------------------------------------------

    def hand_over(self, successor: "Listener") -> None:
        """Let a listener with other settings take the connections, and go on with the sessions.

        Connections that are no sessions yet become its sessions. It takes further ones at once.
        """
        if self._retry is not None:
            self._retry.cancel()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
        successor._listening, self._listening = self._listening, None
        successor._opening, self._successor = self._opening, successor
        successor._sessions, self._sessions = self._sessions, set()
        for session in tuple(successor._sessions):
            session.take_over(successor.parts, successor)
        successor._accept_more()

    # -- the end -------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Take no more connections; those that come wait, if another process has the socket."""
        if self._retry is not None:
            self._retry.cancel()
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def close_gently(self) -> None:
        """Take no more connections; end sessions that have had a transaction, when idle.

        Clients that have just connected may go on to their first message.
        """
        self.stop_accepting()
        self._is_closing_gently = True
        for session in tuple(self._sessions):
            session.drain_after_first()

    async def finish_opening(self, timeout_s: float) -> None:
        """Wait until no connection is on its way to a session, at most so long."""
        _ = await self._opening.finish(timeout_s)

    def close(self) -> None:
        """Take no more connections; end idle sessions, let transactions finish.

        Connections that are no sessions yet are closed.
        """
        self._is_closed = True
        self.stop_accepting()
        self._opening.cancel()
        for session in tuple(self._sessions):
            session.drain()

    def cut_off(self) -> int:
        """End the sessions whose message is not complete; returns how many there were."""
        last_word = reply_of("shutting-down", hostname=self.parts.hostname)
        unfinished = [one for one in self._sessions if not one.is_submitting]
        for session in unfinished:
            session.cut_off(last_word)
        return len(unfinished)

    def abort(self) -> None:
        """Close what is left."""
        for session in tuple(self._sessions):
            session.abort()


async def _readable(connection: socket.socket) -> None:
    """Wait until the client has sent something."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)


def _has_octets(connection: socket.socket) -> bool:
    """True if the client has sent octets; they stay where they are."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False  # none, or an error that the next read has too


async def _behind_proxy(connection: socket.socket, proxy: Client) -> Client:
    """The client that the proxy names; the proxy itself when it speaks for itself.

    Raises ProxyError.
    """
    named = await read_header(connection)
    if named is None:
        return proxy
    address, port = named
    return proxy.speaking_for(address, port)
