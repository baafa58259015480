"""A listener's certificate is replaced while the gate runs, and watched until it expires."""

import asyncio
import json
from pathlib import Path

import trustme

from smtpgate.core.reputation.thresholds import MEASURES
from smtpgate.gate.check import check
from smtpgate.gate.gate import Gate
from smtpgate.metrics import CATALOGUE
from tests.support.clock import move_loop, settle
from tests.support.dialog import Dialog
from tests.support.inprocess import client_tls, login, open_gate, send
from tests.support.waiting import until


def replace_certificate(folder: Path, name: str) -> trustme.CA:
    """Put another one into the listeners' files; who signed it."""
    authority = trustme.CA()
    both = authority.issue_cert(name, "127.0.0.1").private_key_and_cert_chain_pem
    for file in (folder / "tls.crt", folder / "tls.key"):
        both.write_to_path(str(file))
    return authority


async def open_implicit(gate: Gate, authority: trustme.CA | None) -> Dialog:
    context = client_tls()
    if authority is not None:
        authority.configure_trust(context)
    dialog = await Dialog.open(gate.listeners["tls"].port, context)
    await dialog.reply()
    return dialog


async def open_starttls(gate: Gate, authority: trustme.CA | None) -> Dialog:
    context = client_tls()
    if authority is not None:
        authority.configure_trust(context)
    dialog = await Dialog.open(gate.listeners["starttls"].port)
    await dialog.reply()
    await dialog.say("EHLO client.example")
    await dialog.say("STARTTLS")
    await dialog.start_tls(context)
    return dialog


def noted(folder: Path, event: str) -> list[dict[str, object]]:
    lines = (folder / "log").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line)).get("event") == event]


async def test_a_reload_takes_the_newer_certificate_and_leaves_sessions_alone(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        running = await login(gate)
        before = gate.metrics.render().decode()
        newer = replace_certificate(tmp_path, "gate.example")
        await gate.reload()
        for open_session in (open_implicit, open_starttls):
            dialog = await open_session(gate, newer)
            assert (await dialog.say("NOOP")).startswith("250")
        assert (await send(running)).startswith("250")
        name = (
            "smtpgate_certificate_not_after_timestamp_seconds"
            '{listener="tls",name="gate.example"} '
        )
        assert name in before
        assert name in gate.metrics.render().decode()
    assert {line["listener"] for line in noted(tmp_path, "certificate loaded")} == {
        "starttls",
        "tls",
    }


async def test_a_scrape_of_a_whole_gate_has_every_metric_of_the_catalogue(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        text = gate.metrics.render().decode()
    shown = [
        line.split()[2] for line in text.splitlines() if line.startswith("# TYPE smtpgate_")
    ]
    # Their series come with the first judgement of an account.
    of_judged = {f"smtpgate_reputation_{measure}_ratio" for measure in MEASURES}
    # Those come with an access token for an upstream, with a certificate for one, and with an
    # issuer of workloads' tokens.
    names = ("upstream_token_", "upstream_certificate_", "issuer_keys")
    of_settings = {
        one for one in CATALOGUE if one.startswith(tuple(f"smtpgate_{n}" for n in names))
    }
    assert set(shown) == set(CATALOGUE) - of_judged - of_settings
    assert len(shown) == len(set(shown))
    assert "_created" not in text


async def test_a_reload_keeps_the_certificate_in_use_when_the_newer_one_is_unreadable(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        (tmp_path / "tls.crt").write_text("nonsense")
        await gate.reload()
        for open_session in (open_implicit, open_starttls):
            dialog = await open_session(gate, None)
            assert (await dialog.say("NOOP")).startswith("250")
    (first, *_) = noted(tmp_path, "certificate not loaded")
    assert "listener.starttls: cert_file" in str(first["problem"])


async def test_newer_files_are_loaded_within_a_minute_without_a_signal(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        await settle()
        newer = replace_certificate(tmp_path, "gate.example")
        await move_loop(60)
        await until(lambda: len(noted(tmp_path, "certificate loaded")) == 2)
        for open_session in (open_implicit, open_starttls):
            dialog = await open_session(gate, newer)
            assert (await dialog.say("NOOP")).startswith("250")
        (tmp_path / "tls.key").write_text("nonsense")
        await move_loop(60)
        await until(lambda: len(noted(tmp_path, "certificate not loaded")) == 2)
        await move_loop(60)
        dialog = await open_implicit(gate, newer)
        text = gate.metrics.render().decode()
    assert 'smtpgate_certificate_not_loaded{listener="tls"} 1.0' in text
    assert len(noted(tmp_path, "certificate not loaded")) == 2, "it is logged once"


async def test_check_config_warns_of_a_certificate_for_another_name(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        replace_certificate(tmp_path, "mail.example.com")
        said = await asyncio.wait_for(check(gate.config), 10)
    warnings = [line for line in said if line.startswith("warning: listener.")]
    assert len(warnings) == 2
    assert warnings[0].endswith(
        "is for mail.example.com, 127.0.0.1 and not for gate.hostname, gate.example"
    )
