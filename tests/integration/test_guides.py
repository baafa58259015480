"""The guide to several hosts, with a real PostgreSQL and a real Redis."""

from asyncio import to_thread
from pathlib import Path

import pytest

from tests.support.daemons import Lab
from tests.support.databases import Databases
from tests.support.documents import content
from tests.support.guides import FIRST, SECOND, Reader, World
from tests.support.hosts import smtpgate
from tests.support.ledgers import redis_server
from tests.support.reference import guide
from tests.support.scripted_dns import open_dns
from tests.support.upstream_server import open_upstream


async def test_two_hosts_share_what_the_guide_to_several_hosts_says(
    lab: Lab, postgres_databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = postgres_databases.empty()
    redis = await to_thread(redis_server, lab)
    async with open_dns() as dns, open_upstream() as upstream:
        world = World(tmp_path, dns, upstream, url, url, redis.url)
        async with Reader(world) as reader:
            await reader.read(guide("fleet"))
            gates = reader.gates
            assert await content(gates[FIRST].store) == await content(gates[SECOND].store)
            status = await smtpgate(reader.folder(SECOND), "directory", "status")
            assert "postgresql" in status
            reply = await reader.send(author="marketing@ses-example.com", to="jane@example.net")
            assert "Ok 0100" in reply
            used = await smtpgate(reader.folder(SECOND), "quota", "show", "999999999999")
            assert "│ 1000 │ 1    │ 999  │" in used
