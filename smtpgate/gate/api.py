"""The servers of ``[api.NAME]``: each in every process that takes mail, on its own socket."""

import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from smtpgate.api.application import Api
from smtpgate.api.bodies import Bodies
from smtpgate.api.call import ApiParts
from smtpgate.api.doubts import Doubts
from smtpgate.config import Config
from smtpgate.config.sections import ApiConfig
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.confirmer import new_confirmer
from smtpgate.gate.listen import ListeningSockets
from smtpgate.journal.reader import JournalReader
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, EventSink, Ledger, Upstream
from smtpgate.smtp.certificate import ServerTls
from smtpgate.webserver import WebServer

# Beside a message in base64 there are parameters, and attachments have their names.
_SLACK_OCTETS: Final = 256 * 1024


def new_request_id() -> str:
    """An id in the form of AWS's."""
    return str(uuid.UUID(bytes=os.urandom(16), version=4))


def new_api_servers(
    config: Config,
    store: DirectoryStore,
    sockets: ListeningSockets,
    certificates: Mapping[str, ServerTls],
    *,
    directory: LiveDirectory,
    ledger: Ledger,
    journal: Callable[[], Awaitable[JournalReader | None]],
    pipeline: Pipeline,
    upstream: Upstream,
    events: EventSink,
    clock: Clock,
    new_message_id: Callable[[datetime], str],
    on_error: Callable[[BaseException], None],
    answer_s: float,
) -> dict[str, WebServer]:
    """The servers by their names, not started yet. Raises OpenError."""
    if not config.apis:
        return {}
    parts = ApiParts(
        config=config,
        store=store,
        directory=directory,
        ledger=ledger,
        journal=journal,
        pipeline=pipeline,
        upstream=upstream,
        confirmer=new_confirmer(config, upstream, clock),
        events=events,
        clock=clock,
        doubts=Doubts(),
        new_message_id=new_message_id,
        new_request_id=new_request_id,
        on_error=on_error,
    )
    return {
        one.name: WebServer(
            sockets[one.section],
            Api(one.section, parts, _bodies(config, one), is_tls=one.tls == "implicit"),
            max_connections=one.max_connections,
            idle_s=one.idle_timeout_s,
            answer_s=one.body_timeout_s + answer_s,
            tls=certificates[one.label].context if one.label in certificates else None,
        )
        for one in config.apis
    }


def _bodies(config: Config, one: ApiConfig) -> Bodies:
    most = config.gate.max_message_octets * 4 // 3 + _SLACK_OCTETS
    return Bodies(
        max_octets=most,
        max_inflight_octets=max(one.max_inflight_octets, most),
        timeout_s=one.body_timeout_s,
    )
