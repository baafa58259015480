"""Records of a mail server about mail that the gate sent: what becomes of a post."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.key_watch import decode
from smtpgate.gate.gate import Gate
from smtpgate.ports import JournalUnavailableError
from tests.support.inprocess import login, open_gate, send
from tests.support.tenants import add_mail_from
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import OWNER
from tests.system.test_refused_in_part import groups, reports_in
from tests.system.test_return_path import FEEDBACK, OWN, paths
from tests.unit.test_http_feedback import BEARER, SECRET, Answer, ask

pytestmark = pytest.mark.slow

JANE: Final = "jane@example.net"
JOE: Final = "joe@example.net"
POSTS: Final = 'credential_file = "feedback.credential"\nmax_post_records = 5\n'
WITHOUT_LISTENER: Final = f"[feedback]\n{POSTS}"


@dataclass
class Sent:
    """A gate that has sent a message to Jane and Joe."""

    gate: Gate
    upstream: UpstreamServer
    message_id: str
    path: str

    async def post(self, *records: object) -> Answer:
        body = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in records)
        assert self.gate.http is not None
        return await asyncio.to_thread(ask, self.gate.http.port, body.encode(), BEARER)

    async def counts(self, *records: object) -> tuple[int, int, int]:
        said = (await self.post(*records)).said
        assert said["unread"] == 0, said
        return said["accepted"], said["ignored"], said["unknown"]

    def bounce(self, address: str = JANE, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        said = {"status": "5.1.1", "reply": "550", "diagnostic": "smtp; 550 5.1.1 no such user"}
        whole = {"kind": "bounce", "message_id": self.message_id}
        return whole | {"recipients": [said | {"address": address}]} | fields

    def kumomta(self, kind: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        enhanced = {"class": 5, "subject": 1, "detail": 1}
        response = {"code": 550, "enhanced_code": enhanced, "content": "no such user"}
        received = f"from client.example by gate.example with ESMTPSA id {self.message_id}; now"
        return {
            "type": kind,
            "id": "1d98076abbbc11ed940250ebf67f93bd",
            "sender": self.path,
            "recipient": JANE,
            "response": response,
            "peer_address": {"name": "mx.example.net.", "addr": "192.0.2.1"},
            "timestamp": 1678069691,
            "headers": {"Received": received},
            "meta": {},
        } | fields


@asynccontextmanager
async def sent(
    folder: Path, sections: str = FEEDBACK + POSTS, *, has_mail_from: bool = True
) -> AsyncIterator[Sent]:
    (folder / "feedback.credential").write_text(SECRET + "\n")
    (folder / "feedback.credential").chmod(0o600)
    async with (
        open_upstream() as upstream,
        open_gate(folder, port=upstream.port, sections=sections) as (gate, _),
    ):
        if has_mail_from:
            await add_mail_from(gate.store, "ses-example.com", OWNER)
            await gate.service.catch_up()
        reply = await send(await login(gate), to=(JANE, JOE))
        assert reply.startswith("250")
        (path,) = paths(upstream)
        yield Sent(gate, upstream, reply.split()[-1], path)


async def test_a_bounce_becomes_one_event_however_often_it_is_posted(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        for _ in range(2):
            assert await one.counts(one.bounce(), one.kumomta("Bounce")) == (2, 0, 0)
        await until(lambda: len(one.upstream.messages) == 2)
        (report,) = reports_in(one.upstream)
        assert report["To"] == OWN
        _, of_jane = groups(report)
        assert of_jane["Final-Recipient"] == f"rfc822;{JANE}"
        assert of_jane["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"


async def test_records_are_counted_by_what_they_are_about(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        other = "0100" + "0" * 12 + one.message_id[16:]
        assert await one.counts(
            one.kumomta("Delivery", recipient=JOE),
            one.kumomta("Reception"),
            one.bounce("stranger@example.org"),
            one.bounce(message_id=other),
            {"kind": "delivery", "recipients": [{"address": JANE}]},
        ) == (1, 2, 2)
        metrics = one.gate.metrics.render().decode()
        for outcome, number in {"accepted": 1, "ignored": 2, "unknown": 2, "unread": 0}.items():
            line = f'smtpgate_feedback_records_total{{outcome="{outcome}"}} {number}.0'
            assert line in metrics


async def test_an_unread_line_loses_none_of_the_others(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        answer = await one.post("{", one.bounce(), one.bounce(kind="bounced"))
        assert (answer.status, answer.said["accepted"]) == (200, 1)
        assert [each["line"] for each in answer.said["problems"]] == [1, 3]
        await until(lambda: len(one.upstream.messages) == 2)


async def test_too_many_records_are_refused_whole(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        answer = await one.post(*[one.bounce()] * 6)
        assert (answer.status, answer.said) == (
            400,
            {"problem": "the body has more than 5 records"},
        )
        assert len(one.upstream.messages) == 1


async def test_the_sender_of_a_record_must_be_that_of_the_message(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        local_part, _, domain = one.path.partition("@")
        forged = f"{local_part[:-4]}{'aaaa' if local_part[-4:] != 'aaaa' else 'bbbb'}@{domain}"
        assert await one.counts(
            one.kumomta("Bounce", sender="other@example.com"),
            one.bounce(sender="other@example.com"),
            one.bounce(sender=forged),
            one.kumomta("Bounce", sender=forged),
        ) == (0, 0, 4)
        # The client's own MAIL FROM, where the server shows that one.
        assert await one.counts(one.bounce(sender=OWN)) == (1, 0, 0)


async def test_a_report_of_a_stranger_must_show_the_return_path(tmp_path: Path) -> None:
    complaint = {"feedback_type": "abuse", "original_rcpto_to": [JANE]}
    async with sent(tmp_path) as one:
        shown = complaint | {"original_mail_from": f"<{one.path}>"}
        named = complaint | {"original_message": f"Received: id {one.message_id}\n\n"}
        assert await one.counts(
            one.kumomta("OOB", sender="bounces@example.com"),
            one.kumomta("Feedback", feedback_report=named),
        ) == (0, 0, 2)
        assert await one.counts(
            one.kumomta("OOB"), one.kumomta("Feedback", feedback_report=shown)
        ) == (2, 0, 0)


async def test_a_complaint_counts_by_its_id_if_the_message_had_no_return_path_of_its_own(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path, has_mail_from=False) as one:
        said = {
            "original_rcpto_to": [JANE],
            "original_message": f"Received: id {one.message_id}",
        }
        assert await one.counts(one.kumomta("Feedback", feedback_report=said)) == (1, 0, 0)
        assert await one.counts(one.kumomta("Bounce")) == (1, 0, 0)


async def test_a_post_that_cannot_be_kept_stays_with_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sent(tmp_path) as one:

        async def fail(*_: object) -> int:
            raise JournalUnavailableError("the disk is full")

        monkeypatch.setattr("smtpgate.outbox.queue.TaskQueue.add", fail)
        answer = await one.post(one.bounce())
        assert answer.status == 503
        assert "disk" not in str(answer.said)
        monkeypatch.undo()
        assert await one.counts(one.bounce()) == (1, 0, 0)


async def test_without_a_credential_there_is_no_such_page(tmp_path: Path) -> None:
    async with sent(tmp_path, FEEDBACK) as one:
        assert (await one.post(one.bounce())).status == 404


async def test_posts_need_no_listener(tmp_path: Path) -> None:
    async with sent(tmp_path, WITHOUT_LISTENER, has_mail_from=False) as one:
        assert await one.counts(one.bounce()) == (1, 0, 0)


async def test_a_new_bounce_counts_for_the_access_key_of_its_message(tmp_path: Path) -> None:
    async with sent(tmp_path) as one:
        for _ in range(2):
            assert await one.counts(one.bounce()) == (1, 0, 0)
    with closing(sqlite3.connect(tmp_path / "state" / "directory.sqlite")) as database:
        ((octets,),) = database.execute("SELECT profile FROM key_profiles").fetchall()
    profile = decode(octets)
    assert profile is not None
    assert [its.bounced for its in profile.days.values()] == [1]
