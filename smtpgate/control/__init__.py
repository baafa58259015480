"""Requests to a running gate over a Unix socket, such as that of ``smtpgate reload``.

Only root and the gate's own user are served. A request has a name and arguments; the answer is
a stream of values, then its end or a refusal. One process serves the socket: the gate, or the
parent of its workers.

To add a request:

1. A subclass of :class:`ControlRequest` (``frozen=True``) in ``requests.py``: its ``name``, its
   arguments as fields with types. A client sends it, and the handler gets it; a request with
   other fields is refused.
2. A handler: an asynchronous generator that takes the request and yields values, of which
   msgspec can make JSON (texts, numbers, lists, dicts, structs). It raises
   :class:`RefusedError` with a text for the person behind it. It may go on for ever: when the
   client leaves, it is closed where it yields or waits, so ``finally`` cleans up. What must not
   end halfway is a task that it awaits with ``asyncio.shield``.
   :func:`asker` has the process that asks, for the log.
3. ``host.routes.add(MyRequest, handler)`` in ``gate/``, where the parts are.
4. If each process that takes mail has a part of the answer: a second request with
   ``around.routes.add(MyPart, handler)`` in ``gate/service.py``; the first handler gathers with
   ``async for part in host.peers.ask(MyPart(...))``: one :class:`FromWorker` a value and
   worker. That is so with one process, too. A reload replaces the service: if the handler uses
   its listeners, upstreams or pacer, add it again in ``SmtpService.take_over``.
5. A command in ``cli/`` that calls :func:`ask` with ``config.control_path``.
"""

from smtpgate.control.asker import Asker, asker
from smtpgate.control.client import ControlError, ask
from smtpgate.control.requests import (
    BansAction,
    BansAnswer,
    BansPart,
    BansRequest,
    ControlRequest,
    GateLoad,
    ReloadAnswer,
    ReloadRequest,
    SenderRate,
    SessionCount,
    SessionsPart,
    TopRequest,
    TracePart,
    TraceRequest,
    UpstreamLoad,
)
from smtpgate.control.routes import FromWorker, OwnProcess, Peers, RefusedError, Routes
from smtpgate.control.server import ControlServer

__all__ = [
    "Asker",
    "BansAction",
    "BansAnswer",
    "BansPart",
    "BansRequest",
    "ControlError",
    "ControlRequest",
    "ControlServer",
    "FromWorker",
    "GateLoad",
    "OwnProcess",
    "Peers",
    "RefusedError",
    "ReloadAnswer",
    "ReloadRequest",
    "Routes",
    "SenderRate",
    "SessionCount",
    "SessionsPart",
    "TopRequest",
    "TracePart",
    "TraceRequest",
    "UpstreamLoad",
    "ask",
    "asker",
]
