"""The servers of ``[api.NAME]``: each in every process that takes mail, on its own socket."""

import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from smtpgate.admission import Admission
from smtpgate.api.application import Api
from smtpgate.api.bodies import Bodies
from smtpgate.api.bounds import CallBounds
from smtpgate.api.call import ApiParts
from smtpgate.api.doubts import Doubts
from smtpgate.api.notes import ApiNote, DoubtNoted
from smtpgate.config import Config
from smtpgate.config.sections import ApiConfig
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.confirmer import new_confirmer
from smtpgate.gate.listen import ListeningSockets
from smtpgate.gate.peers import WorkerPeers
from smtpgate.journal.reader import JournalReader
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, EventSink, Ledger, Upstream
from smtpgate.random_octets import RandomOctets
from smtpgate.smtp.certificate import ServerTls
from smtpgate.webserver import WebServer

# Beside a message in base64 there are parameters, and attachments have their names.
_SLACK_OCTETS: Final = 256 * 1024


_random: Final = RandomOctets()


def new_request_id() -> str:
    """An id in the form of AWS's."""
    return str(uuid.UUID(bytes=_random.take(16), version=4))


class _Switch:
    """An ASGI application that stands for another one, the newest."""

    def __init__(self, application: Api) -> None:
        self.newest = application
        self.in_flight: Counter[Api] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI
        """Answer a request; it is answered to its end by the application of its beginning."""
        application = self.newest
        self.in_flight[application] += 1
        try:
            await application(scope, receive, send)
        finally:
            self.in_flight[application] -= 1
            if not self.in_flight[application]:
                del self.in_flight[application]


class ApiServers:
    """The servers of one process, by their names, and what they remember together."""

    def __init__(
        self,
        config: Config,
        store: DirectoryStore,
        sockets: ListeningSockets,
        certificates: Mapping[str, ServerTls],
        *,
        directory: LiveDirectory,
        ledger: Ledger,
        journal: Callable[[], Awaitable[JournalReader | None]],
        pipeline: Pipeline,
        admission: Admission,
        upstream: Upstream,
        events: EventSink,
        clock: Clock,
        peers: WorkerPeers | None,
        new_message_id: Callable[[datetime], str],
        on_error: Callable[[BaseException], None],
        answer_s: float,
    ) -> None:
        """Make them; they are not started yet. Raises OpenError."""
        self.servers: dict[str, WebServer] = {}
        self._doubts = Doubts(None if peers is None else peers.share)
        self._bounds: dict[str, CallBounds] = {}
        self._switches: dict[str, _Switch] = {}

        self._parts_of = partial(
            ApiParts,
            store=store,
            directory=directory,
            ledger=ledger,
            journal=journal,
            admission=admission,
            events=events,
            clock=clock,
            doubts=self._doubts,
            new_message_id=new_message_id,
            new_request_id=new_request_id,
            on_error=on_error,
        )
        self._clock = clock
        tell = None if peers is None else peers.tell
        self._bounds = {one.name: CallBounds(one, clock, events, tell) for one in config.apis}
        self.first = self.applications(config, pipeline, upstream)
        for one in config.apis:
            switch = self._switches[one.name] = _Switch(self.first[one.name])
            tls = certificates.get(one.label)
            self.servers[one.name] = _server(switch, one, sockets, tls, answer_s)

    def applications(
        self, config: Config, pipeline: Pipeline, upstream: Upstream
    ) -> dict[str, Api]:
        """The applications with another pipeline, by the names of their servers."""
        if not config.apis:
            return {}
        parts = self._parts_of(
            config=config,
            pipeline=pipeline,
            upstream=upstream,
            confirmer=new_confirmer(config, upstream, self._clock),
        )
        return {
            one.name: _application(parts, self._bounds[one.name], one) for one in config.apis
        }

    def use(self, config: Config, applications: Mapping[str, Api], answer_s: float) -> None:
        """Have further requests answered by these, each in its time."""
        for one in config.apis:
            self._switches[one.name].newest = applications[one.name]
            self.servers[one.name].use_answer_time(one.body_timeout_s + answer_s)

    def is_answering(self, applications: Mapping[str, Api]) -> bool:
        """True while requests that came to these applications are answered."""
        return any(
            self._switches[name].in_flight[application]
            for name, application in applications.items()
        )

    def take(self, note: ApiNote) -> None:
        """Take a note of another worker."""
        if isinstance(note, DoubtNoted):
            self._doubts.take(note)
        else:
            for bounds in self._bounds.values():
                bounds.take(note)


def _application(parts: ApiParts, bounds: CallBounds, one: ApiConfig) -> Api:
    bodies = _bodies(parts.config, one)
    return Api(one.section, parts, bounds, bodies, is_tls=one.tls == "implicit")


def _server(
    application: _Switch,
    one: ApiConfig,
    sockets: ListeningSockets,
    tls: ServerTls | None,
    answer_s: float,
) -> WebServer:
    return WebServer(
        sockets[one.section],
        application,
        max_connections=one.max_connections,
        idle_s=one.idle_timeout_s,
        answer_s=one.body_timeout_s + answer_s,
        tls=None if tls is None else tls.context,
    )


def _bodies(config: Config, one: ApiConfig) -> Bodies:
    most = config.gate.max_message_octets * 4 // 3 + _SLACK_OCTETS
    return Bodies(
        max_octets=most,
        max_inflight_octets=max(one.max_inflight_octets, most),
        timeout_s=one.body_timeout_s,
    )
