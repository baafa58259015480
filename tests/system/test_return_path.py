"""MAIL FROM of messages whose identity has a MAIL FROM domain: the gate's own return path."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from smtpgate.core.proof.mail_from import OnMxFailure
from smtpgate.gate.feedback import open_tagger
from smtpgate.gate.gate import Gate
from smtpgate.journal.reader import JournalReader
from tests.support.inprocess import MESSAGE, login, open_gate, send
from tests.support.tenants import add_mail_from
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import OWNER
from tests.system.test_recipients import BAD, GOOD, as_named, try_all
from tests.system.test_refused_in_part import journal_of, reports_in

OWN = "marketing@ses-example.com"
FEEDBACK = """
[feedback]
enabled = true
address = "127.0.0.1"
port = 0
domain = "bounces.gate.example.com"
"""


@asynccontextmanager
async def relaying(
    folder: Path, *, is_ready: bool = True, on_mx_failure: OnMxFailure = "default"
) -> AsyncIterator[tuple[Gate, UpstreamServer]]:
    """A gate whose identity has a MAIL FROM domain, and its upstream."""
    async with (
        open_upstream() as upstream,
        open_gate(folder, port=upstream.port, sections=FEEDBACK) as (gate, _),
    ):
        await add_mail_from(
            gate.store,
            "ses-example.com",
            OWNER,
            is_ready=is_ready,
            on_mx_failure=on_mx_failure,
        )
        await gate.service.catch_up()
        yield gate, upstream


def paths(upstream: UpstreamServer) -> list[str]:
    commands = [one for visit in upstream.visits for one in visit.commands]
    return [
        one.partition("<")[2].partition(">")[0] for one in commands if one.startswith("MAIL")
    ]


async def test_it_names_the_message_and_only_the_gate_can_make_it(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        verdict = await send(await login(gate))
        message_id = verdict.split()[-1]
        (path,) = paths(upstream)
        assert path.startswith("b+")
        assert path.endswith("@bounce.ses-example.com")
        tagger = open_tagger(gate.config)
        assert tagger is not None
        assert tagger.message_of(path.upper()) == message_id
        assert tagger.message_of(path.replace("b+", "b+a")) is None
        store = journal_of(gate).store
        record = await JournalReader(store, store.key()).get(message_id)
        assert record is not None
        assert (str(record.reverse_path), str(record.return_path)) == (OWN, path)


async def test_a_second_start_makes_the_same_paths(tmp_path: Path) -> None:
    async with relaying(tmp_path) as (gate, _):
        first, second = open_tagger(gate.config), open_tagger(gate.config)
        assert first is not None
        assert second is not None
        message_id = (await send(await login(gate))).split()[-1]
        path = str(first.path_of(message_id, "bounce.ses-example.com"))
        assert second.message_of(path) == message_id


async def test_until_the_mx_record_is_there_mail_from_is_the_client_s(tmp_path: Path) -> None:
    async with relaying(tmp_path, is_ready=False) as (gate, upstream):
        assert (await send(await login(gate))).startswith("250")
        assert paths(upstream) == [OWN]


async def test_an_owner_can_refuse_mail_until_the_mx_record_is_there(tmp_path: Path) -> None:
    async with relaying(tmp_path, is_ready=False, on_mx_failure="reject") as (gate, upstream):
        assert (await send(await login(gate))).startswith("451 4.4.4 MAIL FROM domain of the")
        assert paths(upstream) == []


async def test_the_null_reverse_path_stays(tmp_path: Path) -> None:
    report = MESSAGE.replace("From: Marketing <", "From: MAILER-DAEMON <", 1).replace(
        "marketing@", "MAILER-DAEMON@", 1
    )
    async with relaying(tmp_path) as (gate, upstream):
        report = "Content-Type: multipart/report\r\n" + report
        verdict = await send(await login(gate), report, sender="", to=(OWN,))
        assert verdict.startswith("250"), verdict
        assert paths(upstream) == [""]


async def test_a_report_of_refused_recipients_goes_to_the_client_s_mail_from(
    tmp_path: Path,
) -> None:
    async with relaying(tmp_path) as (gate, upstream):
        upstream.answers["RCPT"] = as_named
        assert (await try_all(await login(gate), GOOD, BAD))[-1].startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        (report,) = reports_in(upstream)
        assert report["To"] == OWN
        assert paths(upstream)[-1] == ""
