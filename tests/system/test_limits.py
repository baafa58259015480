"""Sending limits as a client and an operator see them."""

import asyncio
import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.config import load_config
from smtpgate.core.limits import Subject
from smtpgate.directory.quotas import Quota, QuotaKey, set_quota
from smtpgate.gate.errors import OpenError
from smtpgate.gate.gate import Gate
from smtpgate.gate.ledger import describe_ledger, new_ledger
from smtpgate.gate.serve import open_gate as open_configured_gate
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ledger.sqlite import SqliteLedger
from tests.support.dialog import close_dialogs
from tests.support.directory import ACTOR
from tests.support.forks import Fork
from tests.support.inprocess import MESSAGE, login, open_gate, send
from tests.support.ledgers import used_24h
from tests.support.waiting import until
from tests.support.world import OWNER

DELEGATE: Final = Subject("999999999999")
LIMITS: Final = 'name = "Delegate sender"\nmax_24h_send = 1000'
KEY_ID: Final = "AKIAMAILER0000000000"
TWO: Final = ("a@example.net", "b@example.net")
MAIL: Final = "MAIL FROM:<marketing@ses-example.com>"


def at_most(recipients: int) -> tuple[str, str]:
    return LIMITS, LIMITS.replace("1000", str(recipients))


async def entries(gate: Gate, folder: Path) -> list[dict[str, Any]]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in lines if "outcome" in line]


async def test_a_refusal_says_what_is_left_and_when_it_frees(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(3)) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog, to=TWO)).startswith("250")
        reply = await send(dialog, to=TWO)
        assert re.fullmatch(
            r"454 4\.7\.0 Throttling failure: Daily message quota exceeded\. "
            r"\(max-24h-send: account 999999999999: 1 of 3 recipients left, "
            r"retry after 24:0[01]:[0-5][0-9]; 0100[0-9a-f-]+\)",
            reply,
        ), reply


async def test_a_sender_over_its_quota_is_refused_at_mail(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(2)) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, to=TWO)).startswith("250")
        reply = await dialog.say(MAIL)
        said = re.fullmatch(
            r"454 4\.7\.0 Throttling failure: Daily message quota exceeded\. "
            r"\(max-24h-send: account 999999999999: 0 of 2 recipients left, "
            r"retry after [0-9:]{8}; (0100[0-9a-f-]+)\)",
            reply,
        )
        assert said is not None, reply
        entry = (await entries(gate, tmp_path))[-1]
        assert (entry["event"], entry["id"], entry["reason"], entry["account"]) == (
            "mail-refused",
            said[1],
            "max-24h-send",
            "999999999999",
        )
        refused = 'smtpgate_mail_refused_total{reason="max-24h-send"} 1.0'
        assert refused in gate.metrics.render().decode()
        owner = await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(owner)).startswith("250"), "another account is not concerned"
        assert len(sink.messages) == 2


async def test_the_rest_of_a_pipelined_group_is_refused_and_forgiven(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(1)) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        group = [MAIL, *["RCPT TO:<jane@example.net>"] * 40, "DATA", "NOOP"]
        await dialog.send("".join(f"{command}\r\n" for command in group).encode())
        replies = [await dialog.reply() for _ in group]
        codes = [reply[:3] for reply in replies]
        assert codes == ["454", *["503"] * 41, "250"], "RFC 2920 §3.1: it is no error of theirs"
        assert len(sink.messages) == 1


async def test_other_errors_are_not_forgiven_for_long(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(1)) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        assert (await dialog.say(MAIL)).startswith("454")
        for _ in range(51 + 19):  # a largest group, and max_errors less MAIL
            assert (await dialog.say("RCPT TO:<jane@example.net>")).startswith("503")
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")


async def test_errors_from_before_are_not_forgotten(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(1)) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        for _ in range(18):  # two less than max_errors
            assert (await dialog.say("WHAT")).startswith("500")
        assert (await dialog.say(MAIL)).startswith("454")
        assert (await dialog.say("WHAT")).startswith("500")
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")


async def test_mail_is_not_refused_for_ever_in_one_session(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(1)) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        group = f"{MAIL}\r\nRCPT TO:<jane@example.net>\r\nDATA\r\n".encode()
        for _ in range(19):  # one less than max_errors
            await dialog.send(group)
            codes = [(await dialog.reply())[:3] for _ in range(3)]
            assert codes == ["454", "503", "503"]
        assert (await dialog.say(MAIL)).startswith("454")
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
        refused = [one for one in await entries(gate, tmp_path) if one["event"] != "submission"]
        assert len(refused) == 20


async def test_nothing_is_forgiven_after_the_group(tmp_path: Path) -> None:
    limit = "max_errors = 2"
    async with open_gate(tmp_path, replace=at_most(1), listener=limit) as (gate, _):
        assert (await send(await login(gate))).startswith("250")
        for end in ("DATA", "RSET", "NOOP", "EHLO client.example"):
            dialog = await login(gate)
            assert (await dialog.say(MAIL)).startswith("454")
            await dialog.say(end)
            assert (await dialog.say("RCPT TO:<jane@example.net>")).startswith("503"), end
            assert (await dialog.reply()).startswith("421 4.7.0 Too many errors"), end


async def test_a_quota_that_was_raised_holds_for_the_next_mail(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(1)) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        assert (await dialog.say(MAIL)).startswith("454")
        accounts = tmp_path / "directory" / "accounts.toml"
        accounts.write_text(accounts.read_text().replace("max_24h_send = 1\n", ""))
        await gate.reload()
        assert (await send(dialog)).startswith("250")


WITHIN: Final = [
    (QuotaKey.of_user("999999999999", "mailer"), "user mailer"),
    (QuotaKey.of_key("999999999999", KEY_ID), f"access key {KEY_ID}"),
    (
        QuotaKey.of_grant(OWNER, "us-east-1", "ses-example.com", "999999999999"),
        "account 999999999999 by identity "
        "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com",
    ),
]


async def limit(gate: Gate, place: QuotaKey, **columns: Any) -> None:  # noqa: ANN401 - by the column
    async with gate.store.changing(ACTOR) as change:
        await set_quota(change, place, columns)
    await gate.directory.catch_up()


@pytest.mark.parametrize(("place", "whose"), WITHIN, ids=[place.kind for place, _ in WITHIN])
async def test_limits_within_the_account_s_hold_from_the_next_message_on(
    tmp_path: Path, place: QuotaKey, whose: str
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, to=TWO)).startswith("250")
        await limit(gate, place, max_24h_send=3)
        assert (await send(dialog, to=TWO)).startswith("250"), "what came before is not counted"
        reply = await send(dialog, to=TWO)
        assert f"(max-24h-send: {whose}: 1 of 3 recipients left, retry after " in reply
        until = gate.clock.now() + timedelta(hours=1)
        await limit(gate, place, raised_24h_send=4, raised_until=until)
        assert (await send(dialog, to=TWO)).startswith("250")
        reply = await send(dialog, to=TWO[:1])
        assert f"(max-24h-send: {whose}: 0 of 4 recipients left, retry after " in reply
        nothing = dict.fromkeys(Quota.__slots__)
        await limit(gate, place, **nothing)
        assert (await send(dialog, to=TWO[:1])).startswith("250")
        assert len(sink.messages) == 4
        shown = [line.get("quota_reached") for line in await entries(gate, tmp_path)]
        assert [(one["subject"], one["percent"]) for one in shown[-3] or ()] == [
            (whose, 80),
            (whose, 90),
            (whose, 100),
        ]
        used = await used_24h(gate.ledger, DELEGATE, gate.clock.now())
        assert used == 7, "the account is charged for all"


async def test_all_limits_count_or_none(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        for (place, _), recipients in zip(WITHIN, (9, 9, 1), strict=True):
            await limit(gate, place, max_24h_send=recipients)
        assert "by identity" in await send(dialog, to=TWO)
        now = gate.clock.now()
        assert await used_24h(gate.ledger, DELEGATE, now) == 0
        user = Subject("999999999999", "user", "mailer")
        assert await used_24h(gate.ledger, user, now) == 0
        assert (await send(dialog, to=TWO[:1])).startswith("250")
        assert await used_24h(gate.ledger, user, now) == 1


async def test_a_limit_of_the_key_that_is_used_up_is_reported_at_mail(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await limit(gate, WITHIN[1][0], max_24h_send=1)
        assert (await send(dialog)).startswith("250")
        assert f"access key {KEY_ID}: 0 of 1" in await dialog.say(MAIL)
        record = (await entries(gate, tmp_path))[-1]
        assert record["event"] == "mail-refused"


async def test_an_owner_s_own_mail_is_not_capped(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        await limit(gate, WITHIN[2][0], max_24h_send=0)
        assert "by identity" in await send(await login(gate))
        owner = await login(gate, "AKIAOWNERROOT0000000")
        assert (await send(owner)).startswith("250")


async def test_80_90_and_100_per_cent_are_in_the_log_and_the_metrics(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(5)) as (gate, _):
        dialog = await login(gate)
        for to in (TWO, TWO, TWO[:1]):
            assert (await send(dialog, to=to)).startswith("250")
        shown = [
            (entry["level"], [one["percent"] for one in entry.get("quota_reached", [])])
            for entry in await entries(gate, tmp_path)
        ]
        assert shown == [("info", []), ("warning", [80]), ("warning", [90, 100])]
        last = (await entries(gate, tmp_path))[-1]["quota_reached"][-1]
        assert last == {
            "subject": "account 999999999999",
            "percent": 100,
            "used_24h": 5,
            "max_24h_send": 5,
        }
        metrics = gate.metrics.render().decode()
        for percent in (80, 90, 100):
            labels = f'percent="{percent}",subject="account"'
            assert f"smtpgate_quota_reached_total{{{labels}}} 1.0" in metrics


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_most(2)) as (gate, _):
        assert (await send(await login(gate), to=TWO)).startswith("250")
    loaded = load_config(tmp_path / "smtpgate.toml")
    async with open_configured_gate(loaded) as again:
        try:
            assert "max-24h-send" in await send(await login(again))
        finally:
            await close_dialogs()
            await again.stop(drain_s=0)
    assert loaded.gate.state_dir == tmp_path / "state"
    assert loaded.gate.state_dir.stat().st_mode & 0o777 == 0o700
    assert loaded.ledger_path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("policy", ["refuse", "allow"])
async def test_a_ledger_that_cannot_count_refuses_or_lets_pass_as_configured(
    tmp_path: Path, policy: str
) -> None:
    (tmp_path / "in-the-way").mkdir()
    sections = f'[ledger]\npath = "in-the-way"\n[limits]\non_store_failure = "{policy}"'
    async with open_gate(tmp_path, sections=sections) as (gate, sink):
        reply = await send(await login(gate))
        entry = (await entries(gate, tmp_path))[-1]
        metrics = gate.metrics.render().decode()
        if policy == "refuse":
            assert reply.startswith("451 4.3.0 Temporary service failure (ledger-unavailable")
            assert "smtpgate_uncounted_total 0.0" in metrics
            assert not sink.messages
        else:
            assert reply.startswith("250 2.0.0 Ok")
            assert "in-the-way" in entry["uncounted"]
            assert entry["level"] == "warning"
            assert "smtpgate_uncounted_total 1.0" in metrics


async def test_the_ledger_may_be_elsewhere_or_in_memory(tmp_path: Path) -> None:
    for name, ledger, kind in (
        ("a", 'path = "counts.sqlite"', SqliteLedger),
        ("b", 'kind = "memory"', MemoryLedger),
    ):
        folder = tmp_path / name
        folder.mkdir()
        async with open_gate(folder, sections=f"[ledger]\n{ledger}") as (gate, _):
            assert isinstance(gate.ledger, kind)
            assert (await send(await login(gate), MESSAGE)).startswith("250")
            assert await used_24h(gate.ledger, DELEGATE, gate.clock.now()) == 1
        assert (folder / "counts.sqlite").exists() is (name == "a")
        assert not (folder / "state/ledger.sqlite").exists()


async def test_a_state_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    async with open_gate(tmp_path):
        pass
    config = tmp_path / "smtpgate.toml"
    config.write_text(config.read_text().replace("[gate]", '[gate]\nstate_dir = "log/state"'))
    with pytest.raises(OpenError, match=r"gate\.state_dir: .*/log/state cannot be made: "):
        new_ledger(load_config(config))


async def test_a_redis_ledger_without_its_client_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gate(tmp_path):
        pass
    config = tmp_path / "smtpgate.toml"
    with config.open("a") as file:
        file.write('[ledger]\nkind = "redis"\nurl = "redis://127.0.0.1/0"\n')
    own = ("smtpgate.ledger.redis", "smtpgate.ledger.redis_link")
    for module in [*sys.modules]:
        if module in own or module.partition(".")[0] == "redis":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    for use in (new_ledger, describe_ledger):
        with pytest.raises(OpenError, match=r"not installed: .*/bin/pip install '\.\[redis\]'"):
            use(load_config(config))


async def test_a_url_that_means_nothing_is_not_repeated(tmp_path: Path) -> None:
    async with open_gate(tmp_path):
        pass
    (tmp_path / "redis.url").write_text("http://:sesame@127.0.0.1/0\n")
    config = tmp_path / "smtpgate.toml"
    with config.open("a") as file:
        file.write('[ledger]\nkind = "redis"\nurl_file = "redis.url"\n')
    loaded = load_config(config)
    for use in (new_ledger, describe_ledger):
        with pytest.raises(OpenError, match="means nothing to the client") as refusal:
            use(loaded)
        assert "sesame" not in str(refusal.value)
    (tmp_path / "redis.url").write_text("redis://:sesame@127.0.0.1/0\n")
    assert (
        describe_ledger(load_config(config))
        == "ledger: redis, the server named in ledger.url_file"
    )


# -- as an operator asks for them --------------------------------------------------------------


async def test_what_is_left_is_reported_while_the_gate_runs(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert (await send(await login(gate), to=TWO)).startswith("250")
        words = ("quota", "show", "999999999999", "--json", "-c", tmp_path / "smtpgate.toml")
        asked = Fork(
            *("-m", "smtpgate", *words),
            output=tmp_path / "output",
            errors=tmp_path / "errors",
        )
        assert await asyncio.to_thread(asked.wait, 30) == 0, asked.errors()
        (row,) = json.loads(asked.output())
        assert (row["max_24h_send"], row["used_24h"], row["left"]) == (1000, 2, 998)
        assert (await send(await login(gate))).startswith("250")


RATE: Final = f"{LIMITS}\nmax_send_rate_per_s = 1000"


def at_rate(rate: float) -> tuple[str, str]:
    return RATE, RATE.replace("rate_per_s = 1000", f"rate_per_s = {rate}")


async def test_a_message_over_the_rate_waits_and_then_passes(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_rate(4)) as (gate, sink):
        dialog = await login(gate)
        for _ in range(6):
            assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 6
        current = [entry for entry in await entries(gate, tmp_path) if "paced_ms" in entry]
        assert len(current) in {1, 2}
        assert 0 < current[-1]["paced_ms"] < 5000
        metrics = gate.metrics.render().decode()
        assert f"smtpgate_paced_total {len(current)}.0" in metrics
        assert "smtpgate_paced_waiting 0.0" in metrics


async def test_what_waits_is_counted_nowhere_and_refused_when_the_gate_drains(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, replace=at_rate(0.25)) as (gate, sink):
        dialogs = [await login(gate) for _ in range(2)]
        assert (await send(dialogs[0])).startswith("250")
        assert (await send(dialogs[0])).startswith("250"), "an empty bucket lends at once"
        current = asyncio.ensure_future(send(dialogs[1]))
        await until(lambda: gate.pacer.waiting == 1)
        assert await used_24h(gate.ledger, DELEGATE, gate.clock.now()) == 2
        loop = asyncio.get_running_loop()
        started = loop.time()
        await gate.stop(drain_s=5)
        assert loop.time() - started < 2
        reply = await current
        assert reply.startswith("454 4.7.0 Throttling failure: Maximum sending rate exceeded.")
        assert len(sink.messages) == 2


async def test_a_client_that_leaves_while_its_message_waits_is_dropped(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, replace=at_rate(0.25)) as (gate, sink):
        dialogs = [await login(gate) for _ in range(2)]
        for _ in range(2):
            assert (await send(dialogs[0])).startswith("250")
        current = asyncio.ensure_future(send(dialogs[1]))
        await until(lambda: gate.pacer.waiting == 1)
        current.cancel()
        await dialogs[1].close()
        await until(lambda: gate.pacer.waiting == 0)
        await until(lambda: not gate.sessions or len(gate.sessions) == 1)
        entry = (await entries(gate, tmp_path))[-1]
        assert (entry["outcome"], entry["reason"]) == ("deferred", "client-gone")
        assert len(sink.messages) == 2
        assert await used_24h(gate.ledger, DELEGATE, gate.clock.now()) == 2


@pytest.mark.slow
async def test_what_was_decided_before_the_wait_is_decided_again(tmp_path: Path) -> None:
    async with open_gate(tmp_path, replace=at_rate(0.5)) as (gate, sink):
        dialogs = [await login(gate) for _ in range(2)]
        for _ in range(2):
            assert (await send(dialogs[0])).startswith("250")
        current = asyncio.ensure_future(send(dialogs[1]))
        await until(lambda: gate.pacer.waiting == 1)
        accounts = tmp_path / "directory" / "accounts.toml"
        policy = 'policies = { marketing = "marketing.json" }'
        assert policy in accounts.read_text()
        accounts.write_text(accounts.read_text().replace(policy, ""))
        await gate.reload()
        assert "implicit-deny" in await current
        assert len(sink.messages) == 2
        assert await used_24h(gate.ledger, DELEGATE, gate.clock.now()) == 2
