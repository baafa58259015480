"""A gate with routes: a message, its record and its line in the log."""

import json
from pathlib import Path
from typing import Any, Final

from smtpgate.core.history.record import Record
from smtpgate.demo.sink import Sink
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from tests.support.daemons import free_port
from tests.support.inprocess import ARNS, MESSAGE, login, open_gate, send

_SECTIONS: Final = """
[upstream.gone]
host = "127.0.0.1"
port = {gone}
tls = "off"
[upstream.bulk]
host = "127.0.0.1"
port = {bulk}
tls = "off"
[[route]]
name = "newsletters"
upstreams = ["gone"]
fallback = ["bulk"]
tags = ["campaign"]
listeners = ["plain"]
[[route]]
name = "rest"
upstreams = ["sink"]
"""
TAGGED: Final = MESSAGE.replace(ARNS, f"{ARNS}X-SES-MESSAGE-TAGS: campaign=spring\r\n")


def lines(folder: Path) -> list[dict[str, Any]]:
    logged = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in logged if line["event"] == "submission"]


async def test_a_message_goes_by_its_route_and_its_record_and_line_say_so(
    tmp_path: Path,
) -> None:
    async with Sink() as bulk:
        sections = _SECTIONS.format(gone=free_port(), bulk=bulk.port)
        async with open_gate(tmp_path, sections=sections) as (gate, sink):
            dialog, records = await login(gate), list[Record]()
            assert isinstance(gate.journal, LiveJournal)
            store = gate.journal.store
            for message in (TAGGED, MESSAGE):
                reply = await send(dialog, message)
                assert reply.startswith("250")
                record = await JournalReader(store, store.key()).get(reply.split()[-1])
                assert record is not None
                records.append(record)
            assert (len(bulk.messages), len(sink.messages)) == (1, 1)
            tagged, other = records
    assert tagged.route == ("newsletters", "listener plain, tag campaign")
    assert [(one.upstream, one.cause) for one in tagged.tried] == [("gone", "connect")]
    assert tagged.upstream == "bulk"
    assert (other.route, other.tried, other.upstream) == (("rest", "default"), (), "sink")
    first, second = lines(tmp_path)
    assert first["level"] == "warning"
    assert (first["route"], first["route_reason"]) == tagged.route
    assert first["tried"][0] == {
        "upstream": "gone",
        "cause": "connect",
        "problem": "upstream gone: cannot connect: connection refused",
    }
    assert (second["route"], second["route_reason"]) == ("rest", "default")
    assert "tried" not in second
