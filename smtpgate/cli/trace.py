"""``smtpgate trace``: the transcript of sessions while they go on."""

import re
import sys
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.cli.completion import account_ids, key_ids
from smtpgate.cli.listing import shown, to_json
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    errors,
    fail,
    loaded_config,
    misused,
    option,
)
from smtpgate.control import ControlError, TraceRequest, ask
from smtpgate.core.naming import access_key_id, account_id
from smtpgate.core.transcript import TraceTarget, TranscriptLine, TranscriptPart, network_of

_SESSION: Final = re.compile(r"[0-9a-f]{12}")
_MARKS: Final = {"command": "C:", "reply": "S:", "note": "--"}
_LONGEST_S: Final = 7 * 24 * 3600.0


def _session_id(text: str) -> str:
    if _SESSION.fullmatch(text) is None:
        raise ValueError("a session's id has 12 of 0-9 and a-f; the log shows it")
    return text


_Account: TypeAlias = Annotated[
    str | None,
    option(
        "--account",
        "-a",
        metavar="ACCOUNT",
        help="Sessions that log in with a key of this account.",
        parse=account_id,
        autocompletion=account_ids,
    ),
]
_Key: TypeAlias = Annotated[
    str | None,
    option(
        metavar="KEY",
        help="Sessions that log in with this access key.",
        parse=access_key_id,
        autocompletion=key_ids,
    ),
]
_Address: TypeAlias = Annotated[
    str | None,
    option(
        metavar="ADDRESS",
        help="Sessions and connections of this client, or of this network.",
        parse=network_of,
    ),
]
_Session: TypeAlias = Annotated[
    str | None, option(metavar="ID", help="This open session.", parse=_session_id)
]
_Seconds: TypeAlias = Annotated[
    float | None,
    option(
        "--for",
        metavar="SECONDS",
        min=0.1,
        max=_LONGEST_S,
        help="End after so long; else on Ctrl-C.",
    ),
]


def trace(
    account: _Account = None,
    key: _Key = None,
    address: _Address = None,
    session: _Session = None,
    seconds: _Seconds = None,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the dialogue of sessions as it goes on, with that of the upstream.

    A line has the time in UTC, the session's id, its side (the client's, or the upstream's by
    name), and who speaks: C: for the one that sends mail, S: for the one that takes it, and --
    for what the gate notes. All workers take part, and the gate's log says who traced what.

    Credentials, messages and header fields are never shown, only how many octets they have.
    Control characters are escaped. When lines come faster than they are read, some are dropped,
    and their number is shown. With --json each line is an object.
    """
    if sum(map(bool, (account, key, address, session))) != 1:
        raise misused("say one of --account, --key, --address and --session")
    path = loaded_config(config).control_path
    request = TraceRequest(
        TraceTarget(account or "", key or "", address or "", session or ""), seconds
    )
    try:
        for part in ask(path, request, TranscriptPart, timeout_s=None):
            _print(part, as_json=as_json)
    except ControlError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print(part: TranscriptPart, *, as_json: bool) -> None:
    """Print a part at once: the reader may be another program."""
    if part.sessions and not as_json:
        sessions = "1 open session" if part.sessions == 1 else f"{part.sessions} open sessions"
        errors.print(f"{sessions} in the trace; it ends with Ctrl-C")
    for line in part.lines:
        sys.stdout.write((_json(line) if as_json else _text(line)) + "\n")
    if part.dropped and as_json:
        sys.stdout.write(to_json({"dropped": part.dropped}, indent=None) + "\n")
    elif part.dropped:
        sys.stdout.write(f"-- {part.dropped} lines were dropped: they came too fast\n")
    sys.stdout.flush()


def _text(line: TranscriptLine) -> str:
    side = line.upstream or line.side
    text = f"{line.at[11:23]} {line.session or '-'} {side} {_MARKS[line.kind]} {line.text}"
    return shown(text)


def _json(line: TranscriptLine) -> str:
    fields = ("at", "session", "side", "upstream", "kind", "text")
    return to_json({name: getattr(line, name) for name in fields}, indent=None)
