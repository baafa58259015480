"""A gate with several upstreams: routes, records, log, EHLO, readiness and metrics."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.core.history.record import Record
from smtpgate.demo.sink import Sink
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.signing.private_keys import generate_private_key
from tests.support.daemons import free_port
from tests.support.dialog import Dialog
from tests.support.inprocess import ARNS, MESSAGE, auth_plain, login, open_gate, send
from tests.support.upstream_server import open_upstream
from tests.support.waiting import until

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


@cache
def rsa_pem() -> str:
    return generate_private_key().decode()


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


_BY_ACCOUNT: Final = """
[upstream.small]
host = "127.0.0.1"
port = {small}
tls = "off"
[[route]]
name = "owner"
upstreams = ["small"]
accounts = ["888888888888"]
[[route]]
name = "rest"
upstreams = ["sink"]
"""


async def test_ehlo_offers_what_the_upstreams_have_that_may_get_the_clients_messages(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream("SIZE 5000", "8BITMIME") as large,
        open_upstream("SIZE 2000", "SMTPUTF8", "8BITMIME") as small,
        open_gate(
            tmp_path,
            port=large.port,
            upstream="probe_interval_s = 30",
            sections=_BY_ACCOUNT.format(small=small.port),
        ) as (gate, _),
    ):
        for server in (large, small):  # each is probed at the start
            visits = server.visits
            await until(lambda: any("NOOP" in visit.verbs for visit in visits))  # noqa: B023
        offered = {}
        for key in ("", "AKIAMAILER0000000000", "AKIAOWNERROOT0000000"):
            dialog = await Dialog.open(gate.listeners["plain"].port)
            await dialog.reply()
            lines = await dialog.say("EHLO client.example")
            if key:
                assert (await dialog.say(f"AUTH PLAIN {auth_plain(key)}")).startswith("235")
                lines = await dialog.say("EHLO client.example")
            words = set(lines.replace("\r\n", "\n").replace("250-", "").split("\n"))
            offered[key] = {one.removeprefix("250 ") for one in words}
        both, delegate, owner = offered.values()
        assert {"SIZE 2000", "8BITMIME"} <= both
        assert "SMTPUTF8" not in both
        assert "SIZE 5000" in delegate
        assert "SMTPUTF8" not in delegate
        assert {"SIZE 2000", "SMTPUTF8"} <= owner


async def test_a_gate_with_a_broken_route_stays_ready_for_the_others_and_names_it(
    tmp_path: Path,
) -> None:
    sections = _BY_ACCOUNT.format(small=free_port()).replace(
        "[[route]]", "probe_interval_s = 30\nmax_failures = 1\n[[route]]", 1
    )
    async with open_gate(tmp_path, sections=sections) as (gate, sink):
        await until(lambda: gate.readiness.checks()["route.owner"][1] != "up")
        ready, checks = gate.readiness.is_ready()
        assert ready
        assert checks["route.owner"] == "down: none of its upstreams can be used (small)"
        assert checks["route.rest"] == checks["upstream.sink"] == "up"
        assert checks["upstream.small"].startswith("down: upstream small: cannot connect")
        assert (await send(await login(gate))).startswith("250")
        metrics = gate.metrics.render().decode()
    assert len(sink.messages) == 1
    assert 'smtpgate_route_up{route="owner"} 0.0' in metrics
    assert 'smtpgate_route_up{route="rest"} 1.0' in metrics


async def test_a_gate_whose_upstream_is_away_is_not_ready_and_its_metrics_say_so(
    tmp_path: Path,
) -> None:
    settings = "probe_interval_s = 30\nmax_failures = 1"
    async with open_gate(tmp_path, port=free_port(), upstream=settings) as (gate, _):
        await until(lambda: not gate.readiness.is_ready()[0])
        problem = "upstream sink: cannot connect: connection refused"
        assert gate.readiness.checks()["upstream.sink"] == (False, f"down: {problem}")
        reply = await send(await login(gate))
        assert reply.startswith("451 4.4.1")
        metrics = gate.metrics.render().decode()
    assert 'smtpgate_upstream_up{upstream="sink"} 0.0' in metrics
    assert 'smtpgate_upstream_breaker{upstream="sink"} 2.0' in metrics
    assert 'smtpgate_upstream_failures_total{cause="open",upstream="sink"} 1.0' in metrics
    assert 'smtpgate_upstream_failures_total{cause="tls",upstream="sink"} 0.0' in metrics
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (state,) = [one for one in events if one["event"] == "upstream-state"]
    assert (state["upstream"], state["state"], state["problem"]) == ("sink", "open", problem)


@pytest.mark.parametrize(("most", "algorithms"), [(1, ["rsa"]), (2, ["ed25519", "rsa"])])
async def test_a_message_has_as_many_signatures_as_its_upstream_takes(
    tmp_path: Path, most: int, algorithms: list[str]
) -> None:
    keys = '{ selector = "test", key_file = "dkim.pem" }'
    async with open_gate(
        tmp_path,
        replace=(keys, f'{keys}, {{ selector = "more", key_file = "rsa.pem" }}'),
        files={"rsa.pem": rsa_pem()},
        upstream=f"max_signatures = {most}",
    ) as (gate, sink):
        assert (await send(await login(gate))).startswith("250")
    (message,) = sink.messages
    assert sorted(re.findall(r" a=([a-z0-9]+)-sha256;", message.content.decode())) == algorithms
