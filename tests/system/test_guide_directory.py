"""The guide to the directory: each line can be typed, and does what it says."""

import json
from asyncio import to_thread
from pathlib import Path

import pytest

from smtpgate.gate.initialize import Sample, initialize
from tests.support.databases import Databases
from tests.support.desk import Desk
from tests.support.scripted_dns import open_dns
from tests.support.tasks import NEW_DELEGATE, NEW_DOMAIN, NEW_OWNER, Operator, blocks
from tests.support.upstream_server import open_upstream
from tests.support.world import DELEGATE, OWNER

_POSTGRESQL = "postgresql://smtpgate@db.example.com/smtpgate"


async def follow_the_section(desk: Desk, url: str) -> Operator:
    """Do everything that stands there, in order."""
    sample = desk.folder / "sample"
    initialize(sample, Sample(hostname="gate.example.com"))
    await to_thread(desk.says, "apply", sample / "directory")
    async with open_dns() as dns, open_upstream() as upstream:
        desk.ask_dns_at(dns.port)
        desk.relay_to(upstream.port)
        operator = Operator(desk, dns, upstream, {_POSTGRESQL: url})
        for language, text in blocks():
            if language == "toml":
                await operator.configure(text)
                continue
            for line in text.splitlines():
                await operator.do(line)
    return operator


async def must_be_as_told(desk: Desk, operator: Operator, kind: str) -> None:
    """What the section promises has come about."""
    shown = operator.shown
    assert all(shown[line].startswith("allow\n") for line in shown if " simulate " in line)
    for account_id in (OWNER, DELEGATE, NEW_OWNER, NEW_DELEGATE):
        card = await to_thread(desk.answers, "account", "show", account_id)
        assert card["status"] == "active"
    revoked = await to_thread(desk.answers, "identity", "show", f"{OWNER}/ses-example.com")
    assert (revoked["status"], revoked["policies"]) == ("success", [])
    name = f"{NEW_OWNER}/{NEW_DOMAIN}"
    domain = await to_thread(desk.answers, "identity", "show", name)
    assert (domain["status"], domain["method"]) == ("success", "txt")
    assert len(domain["policies"]) == 1
    assert [key["stage"] for key in domain["dkim_keys"]] == ["active"]
    address = await to_thread(desk.answers, "identity", "show", f"{NEW_OWNER}/ceo@{NEW_DOMAIN}")
    assert (address["status"], address["method"]) == ("success", "mail")
    (key,) = await to_thread(desk.answers, "key", "list", "--owner", f"{NEW_DELEGATE}/mailer")
    assert key["status"] == "active"
    status = await to_thread(desk.answers, "directory", "status")
    assert status["kind"] == kind
    assert (status["current_master_key"], status["master_keys"]) == ("m2", ["m2", "m1"])


async def test_every_line_can_be_typed_and_does_what_it_says(
    desk: Desk, tmp_path: Path
) -> None:
    other = tmp_path / "other.sqlite"
    operator = await follow_the_section(desk, f"sqlite:///{other}")
    assert len(operator.done) > 40
    await must_be_as_told(desk, operator, "sqlite")
    assert (await to_thread(desk.answers, "directory", "status"))["database"] == str(other)
    exported = (tmp_path / "backups/documents").rglob("*.json")
    assert [json.loads(path.read_text()) for path in exported]


@pytest.mark.integration
async def test_the_directory_moves_to_a_real_postgresql(
    desk: Desk, postgres_databases: Databases
) -> None:
    operator = await follow_the_section(desk, postgres_databases.empty())
    await must_be_as_told(desk, operator, "postgresql")
