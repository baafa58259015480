"""``smtpgate doctor``: silent about a healthy gate, and it finds each planted fault."""

import asyncio
import os
import pwd
import shutil
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trustme

from smtpgate.config.sections import DnsConfig
from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.directory.sealing import new_master_key
from smtpgate.dns.resolver import DnsResolver
from smtpgate.doctor.case import DoctorCheck, ExaminedGate, run_checks
from smtpgate.doctor.finding import KINDS, DoctorFinding, found
from smtpgate.doctor.spf import spf_verdict
from smtpgate.gate.doctor import examine_gate
from smtpgate.gate.ledger import open_ledger
from smtpgate.gate.resolver import new_resolver
from tests.support.cases import load_cases
from tests.support.clock import MovableClock
from tests.support.examined import ExaminedWorld, open_examined
from tests.support.inprocess import authority_pem, certificate_pem
from tests.support.rights import with_way_for_all
from tests.support.rows import rows
from tests.support.scripted_dns import open_dns
from tests.support.upstream_server import HANG_UP, UpstreamServer, open_upstream
from tests.support.world import OWNER, PASSWORD
from tests.support.zone import serve_zone

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
async def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ExaminedWorld]:
    """A healthy gate, whose certificate this machine trusts."""
    authority = tmp_path / "authority.pem"
    authority.write_bytes(authority_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with open_examined(tmp_path) as world:
        yield world


def seen(findings: list[DoctorFinding]) -> set[tuple[str, str]]:
    """The level and the kind of each."""
    return {(finding.row.level, finding.kind) for finding in findings}


async def test_a_healthy_gate_has_no_finding_above_a_note(world: ExaminedWorld) -> None:
    before = {path: path.read_bytes() for path in world.state.glob("*.sqlite")}
    findings = await world.findings()
    assert seen(findings) == {("note", "clock-alone")}, findings
    assert {path: path.read_bytes() for path in before} == before
    assert world.sink.messages == []


async def test_a_gate_that_is_down_is_only_a_note(world: ExaminedWorld) -> None:
    config = world.config
    await world.gate.stop(drain_s=0, finish_s=0)
    findings = [
        finding
        for report in await examine_gate(config, world.clock, outgoing=world.outgoing)
        for finding in report.findings
    ]
    assert seen(findings) == {("note", "clock-alone"), ("note", "gate-down")}, findings


@rows("case", load_cases("doctor/10-dns.toml"), ids=lambda case: case["note"])
async def test_a_fault_in_the_dns_is_found(world: ExaminedWorld, case: dict[str, Any]) -> None:
    healthy = dict(world.zone)
    for name in case.get("remove", ()):
        del world.zone[name]
    world.zone.update(case.get("set", {}))
    try:
        findings = await world.findings("dns", "identities")
    finally:
        world.zone.clear()
        world.zone.update(healthy)
    assert [(one.kind, one.subject) for one in findings] == [(case["kind"], case["subject"])]


@rows("case", load_cases("doctor/20-spf.toml"), ids=lambda case: case["note"])
async def test_spf_is_evaluated_as_by_a_receiver(case: dict[str, Any]) -> None:
    async with open_dns() as server:
        serve_zone(server, case["zone"])
        resolver = DnsResolver(DnsConfig(nameservers=(server.nameserver,), timeout_s=2))
        address = ip_address(case.get("address", "192.0.2.25"))
        verdict = await spf_verdict(address, "example.com", resolver)
    assert verdict.result == case["result"], verdict


# -- planted faults ----------------------------------------------------------------------------

Fault: TypeAlias = Callable[[ExaminedWorld], Awaitable[None] | None]
FAULTS: Final[dict[str, Fault]] = {}
"""A fault by the check that finds it and the kind of the finding."""


def fault(check: str, kind: str) -> Callable[[Fault], Fault]:
    """Note a function that plants a fault."""

    def noted(plant: Fault) -> Fault:
        FAULTS[f"{check} {kind} {plant.__name__}"] = plant
        return plant

    return noted


@fault("configuration", "config-unwise")
def an_upstream_in_clear_text(world: ExaminedWorld) -> None:
    world.change('host = "127.0.0.1"', 'host = "192.0.2.25"')


@fault("configuration", "log-folder-missing")
def a_log_in_a_folder_that_is_not_there(world: ExaminedWorld) -> None:
    world.change('target = "log"', 'target = "logs/log"')


@fault("rights", "key-open")
def a_master_key_for_every_user(world: ExaminedWorld) -> None:
    (world.folder / "master.key").chmod(0o644)


@fault("rights", "key-open")
def a_private_key_for_every_user(world: ExaminedWorld) -> None:
    (world.folder / "tls.key").chmod(0o644)


@fault("rights", "state-open")
def a_state_folder_for_every_user(world: ExaminedWorld) -> None:
    world.state.chmod(0o755)


@fault("rights", "state-unusable")
def a_state_folder_that_is_a_file(world: ExaminedWorld) -> None:
    world.change("drain_s = 5", 'state_dir = "tls.crt"')


@fault("limits", "descriptors-few")
def more_connections_than_files(world: ExaminedWorld) -> None:
    world.change('tls = "implicit"', 'tls = "implicit"\nmax_connections = 2000000000')


@fault("disk", "disk-short")
def less_space_than_large_messages_may_take(world: ExaminedWorld) -> None:
    world.change("max_spooled_octets = 20000000", f"max_spooled_octets = {1 << 60}")


@fault("ports", "certificate-unusable")
def a_certificate_file_without_one(world: ExaminedWorld) -> None:
    (world.folder / "tls.crt").write_text("nothing\n")


@fault("ports", "certificate-old")
def a_certificate_that_was_not_loaded(world: ExaminedWorld) -> None:
    put_certificate(world, "gate.example")


@fault("ports", "certificate-other-name")
def another_name_than_the_certificate_s(world: ExaminedWorld) -> None:
    world.change('hostname = "gate.example"', 'hostname = "mail.example"')


@fault("ports", "certificate-expired")
async def a_certificate_that_ended_while_the_gate_was_down(world: ExaminedWorld) -> None:
    put_certificate(world, "gate.example", datetime.now(UTC) - timedelta(days=1))
    await world.gate.stop(drain_s=0, finish_s=0)


@fault("ports", "certificate-ends-soon")
async def a_certificate_of_a_week_before_a_start(world: ExaminedWorld) -> None:
    put_certificate(world, "gate.example", datetime.now(UTC) + timedelta(days=7))
    await world.gate.reload()


@fault("ports", "certificate-expired")
def a_certificate_that_is_used_by_sni_alone(world: ExaminedWorld) -> None:
    pem = certificate_pem("mail.example", datetime.now(UTC) - timedelta(days=1))
    (world.folder / "second.pem").write_bytes(pem)
    second = '[{ cert_file = "second.pem", key_file = "second.pem" }]'
    world.change('tls = "implicit"', f'tls = "implicit"\ncertificates = {second}')


@fault("ports", "port-closed")
def a_listener_that_is_not_open(world: ExaminedWorld) -> None:
    world.change("[upstream.sink]", SECOND_LISTENER.format(port=1))


@fault("ports", "port-without-login")
def another_program_at_a_port(world: ExaminedWorld) -> None:
    world.change("[upstream.sink]", SECOND_LISTENER.format(port=world.other.port))


@fault("ports", "port-tls-fails")
def another_program_without_starttls(world: ExaminedWorld) -> None:
    listener = SECOND_LISTENER.format(port=world.other.port)
    world.change("[upstream.sink]", listener.replace(*PLAIN_FOR_TLS))


@fault("ports", "port-proxied")
def a_listener_behind_a_proxy_on_this_machine(world: ExaminedWorld) -> None:
    world.change('tls = "implicit"', 'tls = "implicit"\nproxy_from = ["127.0.0.0/8"]')


@fault("ports", "port-client-certificate")
def a_listener_that_asks_for_certificates(world: ExaminedWorld) -> None:
    trustme.CA().cert_pem.write_to_path(str(world.folder / "clients-ca.pem"))
    world.change('tls = "implicit"', 'tls = "implicit"\nclient_ca_file = "clients-ca.pem"')


@fault("upstreams", "upstream-unreachable")
async def an_upstream_that_is_down(world: ExaminedWorld) -> None:
    await world.sink.close()


@fault("upstreams", "upstream-takes-less")
def larger_messages_than_the_upstream_takes(world: ExaminedWorld) -> None:
    world.change("max_message_octets = 10000000", "max_message_octets = 100000000")
    world.change("max_spooled_octets = 20000000", "max_spooled_octets = 100000000")


@fault("directory", "master-key-unusable")
def a_master_key_file_that_is_not_there(world: ExaminedWorld) -> None:
    (world.folder / "master.key").unlink()


@fault("directory", "master-key-unusable")
def another_master_key(world: ExaminedWorld) -> None:
    (world.folder / "master.key").write_text(new_master_key("other"))


@fault("directory", "documents-invalid")
def a_document_with_an_unknown_key(world: ExaminedWorld) -> None:
    path = world.folder / "directory" / "accounts.toml"
    path.write_text(path.read_text() + "\n[acounts.888888888888]\n")


@fault("directory", "directory-unavailable")
def a_directory_that_is_no_database(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "directory.sqlite").write_bytes(b"no database" * 1000)


@fault("directory", "directory-schema")
def a_directory_of_a_later_version(world: ExaminedWorld) -> None:
    move_state(world)
    sql(world.state / "directory.sqlite", "UPDATE directory_version SET version_num = '9999'")


@fault("directory", "directory-to-upgrade")
def a_directory_whose_tables_the_next_start_makes(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "directory.sqlite").write_bytes(b"")


@fault("directory", "directory-missing")
def no_directory_yet(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "directory.sqlite").unlink()


@fault("ledger", "ledger-unavailable")
def a_ledger_that_is_no_database(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "ledger.sqlite-wal").unlink(missing_ok=True)  # SQLite would repair it
    (world.state / "ledger.sqlite").write_bytes(b"no database" * 1000)


@fault("journal", "journal-unavailable")
def a_journal_without_its_key(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "journal.key").unlink()


@fault("journal", "journal-unavailable")
def a_journal_that_is_no_database(world: ExaminedWorld) -> None:
    move_state(world)
    (world.state / "journal.sqlite").write_bytes(b"no database" * 1000)


@fault("journal", "journal-off")
def a_gate_without_a_journal(world: ExaminedWorld) -> None:
    world.change("[http]", "[journal]\nenabled = false\n[http]")


@fault("journal", "outbox-dead")
def a_task_that_was_given_up(world: ExaminedWorld) -> None:
    add_task(world, "dead", datetime.now(UTC))


@fault("journal", "outbox-late")
def a_task_that_waits_for_hours(world: ExaminedWorld) -> None:
    add_task(world, "waiting", datetime.now(UTC) - timedelta(hours=3))


@fault("ledger", "ledger-forgets")
def a_ledger_in_memory(world: ExaminedWorld) -> None:
    world.change("[http]", '[ledger]\nkind = "memory"\n[http]')


@fault("quotas", "quota-near")
async def an_account_at_the_end_of_its_quota(world: ExaminedWorld) -> None:
    charge = Charge(Subject(OWNER), SendingLimits(1000, 1000))
    async with open_ledger(world.config) as ledger:
        now = datetime.now(UTC)
        reservation = await ledger.reserve([charge], 950, now)
        await ledger.commit(reservation, 950, now)


@fault("identities", "spf-not-checked")
def an_upstream_whose_addresses_are_not_known(world: ExaminedWorld) -> None:
    world.outgoing = ()


@fault("identities", "dkim-none")
def an_identity_whose_key_does_not_sign(world: ExaminedWorld) -> None:
    sql(world.state / "directory.sqlite", "UPDATE dkim_keys SET stage = 'pending'")


@fault("identities", "mail-from-unproved")
def a_mail_from_domain_without_its_mx_record(world: ExaminedWorld) -> None:
    world.zone["bounce.ses-example.com TXT"] = ["v=spf1 ip4:192.0.2.25 -all"]
    sql(
        world.state / "directory.sqlite",
        "INSERT INTO mail_from_domains (account_id, region, identity, domain, on_mx_failure, "
        "state, problem) SELECT account_id, region, name, 'bounce.ses-example.com', 'default', "
        "'pending', 'there is no MX record' FROM identities",
    )


@fault("identities", "identity-missing")
def an_identity_whose_proof_is_gone(world: ExaminedWorld) -> None:
    statement = "UPDATE identities SET missing_since = '2026-01-01 00:00:00.000000'"
    sql(world.state / "directory.sqlite", statement)


def other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver of the system that knows one name, of this machine."""
    real = socket.getaddrinfo

    def look_up(host: str, port: int, **options: Any) -> Any:  # noqa: ANN401 - as the real one
        if host.endswith("example.net") and host != "here.example.net":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host.replace("here.example.net", "127.0.0.1"), port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("here.example.net", "upstream-loops"),
        ("nowhere.example.net", "upstream-unresolved"),
    ],
)
async def test_a_name_of_an_upstream_that_leads_back_or_nowhere_is_found(
    world: ExaminedWorld, monkeypatch: pytest.MonkeyPatch, host: str, kind: str
) -> None:
    other_names(monkeypatch)
    world.change("[upstream.sink]", SECOND_LISTENER.format(port=world.sink.port))
    world.change('host = "127.0.0.1"', f'host = "{host}"')
    assert [one.kind for one in await world.findings("upstreams")] == [kind]


@asynccontextmanager
async def at_a_scripted_upstream(
    world: ExaminedWorld, *offers: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[UpstreamServer]:
    """Examine another upstream, whose answers a test chooses."""
    async with open_upstream(*offers, tls=tls) as upstream:
        world.change(f"port = {world.sink.port}", f"port = {upstream.port}")
        yield upstream


@rows(
    "verb,answer,kind",
    [
        ("CONNECT", "421 4.3.2 too busy", "upstream-unreachable"),
        ("CONNECT", HANG_UP, "upstream-unreachable"),
        ("EHLO", "550 5.7.1 not you", "upstream-unreachable"),
        ("AUTH", "535 5.7.8 wrong password", "upstream-login-refused"),
        ("NOOP", "421 4.3.2 leave", "upstream-unreachable"),
    ],
)
async def test_an_upstream_that_refuses_is_found(
    world: ExaminedWorld, verb: str, answer: str, kind: str
) -> None:
    secret = world.folder / "upstream.secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    before = (world.folder / "smtpgate.toml").read_text()
    login = '[upstream.sink]\nusername = "gate"\npassword_file = "upstream.secret"'
    world.change("[upstream.sink]", login)
    try:
        async with at_a_scripted_upstream(world, "AUTH PLAIN") as upstream:
            upstream.answers[verb] = answer
            findings = await world.findings("upstreams")
    finally:
        (world.folder / "smtpgate.toml").write_text(before)
    assert [one.kind for one in findings] == [kind]
    assert PASSWORD not in str(findings)
    assert "MAIL" not in {verb for visit in upstream.visits for verb in visit.verbs}


async def test_an_upstream_whose_certificate_nobody_knows_is_found(
    world: ExaminedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(world.folder / "tls.crt", world.folder / "tls.key")
    world.change('tls = "off"', 'tls = "required"')
    async with at_a_scripted_upstream(world, "STARTTLS", tls=tls):
        assert await world.findings("upstreams") == []
        monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
        (finding,) = await world.findings("upstreams")
    assert finding.kind == "upstream-tls-fails"
    assert "certificate not accepted" in finding.problem


async def test_a_certificate_of_an_upstream_that_ends_soon_is_found(
    world: ExaminedWorld,
) -> None:
    pem = world.folder / "upstream.pem"
    pem.write_bytes(certificate_pem("127.0.0.1", datetime.now(UTC) + timedelta(days=3)))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    world.change('tls = "off"', 'tls = "required"')
    async with at_a_scripted_upstream(world, "STARTTLS", tls=tls):
        (finding,) = await world.findings("upstreams")
    assert finding.kind == "upstream-certificate-ends-soon"


async def test_a_certificate_that_this_machine_does_not_trust_is_a_note(
    world: ExaminedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    findings = await world.findings("ports")
    assert seen(findings) == {("note", "certificate-untrusted")}
    assert len(findings) == 2  # of the ports with TLS
    await world.gate.log.flush()
    assert "handshake-failed" not in (world.folder / "log").read_text()


async def test_a_certificate_that_is_not_in_the_files_is_verified_as_it_is_served(
    world: ExaminedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    key, certificate = trustme.CA().issue_cert("gate.example"), world.folder / "tls.crt"
    certificate.write_bytes(key.cert_chain_pems[0].bytes())
    (world.folder / "tls.key").write_bytes(key.private_key_pem.bytes())
    findings = await world.findings("ports")
    assert seen(findings) >= {
        ("note", "certificate-untrusted"),
        ("warning", "certificate-old"),
    }


async def test_a_test_message_goes_by_each_upstream_when_it_is_asked_for(
    world: ExaminedWorld,
) -> None:
    (sent,) = await world.findings("upstreams", test_to="jane@example.net")
    assert sent.kind == "test-sent"
    (message,) = world.sink.messages
    assert b"Test of the mail gateway" in message.content
    async with at_a_scripted_upstream(world) as upstream:
        upstream.answers["RCPT"] = "550 5.1.1 no such user"
        (refused,) = await world.findings("upstreams", test_to="joe@example.net")
    assert refused.kind == "test-not-sent"
    assert "550 5.1.1 no such user" in refused.problem


@needs_root
async def test_files_that_the_gate_s_user_cannot_use_are_found(world: ExaminedWorld) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    with_way_for_all(world.state)
    os.chown(world.state, nobody, -1)
    for path in (world.folder / "tls.key", world.folder / "master.key"):
        path.chmod(0o600)
    findings = await world.findings("rights")
    assert seen(findings) == {("warning", "key-unreadable"), ("warning", "state-of-others")}
    assert {one.subject for one in findings if one.kind == "key-unreadable"} == {
        str(world.folder / "tls.key"),
        str(world.folder / "master.key"),
    }


async def test_an_upstream_for_which_no_token_is_to_be_had_is_found(
    world: ExaminedWorld,
) -> None:
    secret = world.folder / "client.secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    world.change(
        "[upstream.sink]",
        '[upstream.sink.oauth]\ntoken_endpoint = "http://127.0.0.1:1/token"\n'
        'client_id = "gate"\nclient_secret_file = "client.secret"\n'
        '[upstream.sink]\nusername = "gate@example.com"\nauth = "xoauth2"',
    )
    (finding,) = await world.findings("upstreams")
    assert finding.kind == "upstream-login-refused"
    assert "no access token: the token endpoint" in finding.problem
    assert PASSWORD not in finding.problem


async def test_an_upstream_that_answers_slowly_is_found(world: ExaminedWorld) -> None:
    clock = MovableClock(datetime.now(UTC))
    world.clock = clock

    def noop(_: str) -> str:
        clock.move(3)
        return "250 2.0.0 ok"

    async with at_a_scripted_upstream(world) as upstream:
        upstream.answers["NOOP"] = noop
        (finding,) = await world.findings("upstreams")
    assert (finding.kind, finding.problem) == (
        "upstream-slow",
        "it answered NOOP after 3.0 s",
    )


async def test_a_check_that_hangs_or_breaks_leaves_the_findings_of_the_others(
    world: ExaminedWorld,
) -> None:
    async def hangs(_: ExaminedGate) -> AsyncIterator[DoctorFinding]:
        yield found("journal-off", "journal", "seen before")
        await asyncio.Event().wait()

    async def breaks(_: ExaminedGate) -> AsyncIterator[DoctorFinding]:
        if PASSWORD:
            raise ValueError(PASSWORD)
        yield found("journal-off", "journal", "never")

    async def works(_: ExaminedGate) -> AsyncIterator[DoctorFinding]:
        yield found("clock-alone", "clock", "as it is")

    checks = [DoctorCheck(one.__name__, "", 0.02, one) for one in (hangs, breaks, works)]
    gate = ExaminedGate(
        config=world.config, clock=world.clock, resolver=new_resolver(world.config)
    )
    reports = await run_checks(gate, checks)
    assert [[one.kind for one in report.findings] for report in reports] == [
        ["journal-off", "check-too-slow"],
        ["check-failed"],
        ["clock-alone"],
    ]
    assert "ValueError in" in reports[1].findings[0].problem
    assert PASSWORD not in str(reports)


async def test_a_subdomain_that_strict_dmarc_does_not_align_is_found(tmp_path: Path) -> None:
    subdomain = f'\n[accounts.{OWNER}.identities."news.ses-example.com"]\nverified = true\n'
    async with open_examined(tmp_path, accounts=subdomain) as world:
        world.zone["news.ses-example.com TXT"] = ["v=spf1 ip4:192.0.2.25 -all"]
        assert await world.findings("identities") == []
        world.zone["_dmarc.ses-example.com TXT"] = ["v=DMARC1; p=reject; adkim=s"]
        (finding,) = await world.findings("identities")
    assert (finding.kind, finding.subject) == ("dmarc-not-aligned", "news.ses-example.com")
    assert "ses-example.com signs its mail" in finding.problem


async def test_another_server_that_closes_at_once_is_found(world: ExaminedWorld) -> None:
    async with open_upstream() as other:
        other.answers["CONNECT"] = HANG_UP
        world.change("[upstream.sink]", SECOND_LISTENER.format(port=other.port))
        (finding,) = await world.findings("ports")
    assert finding.kind == "port-silent"
    assert finding.problem == "the connection was closed before the greeting"


SECOND_LISTENER: Final = """\
[listener.second]
address = "127.0.0.1"
port = {port}
tls = "none"
allow_plaintext_auth = true
[upstream.sink]"""
PLAIN_FOR_TLS: Final = (
    'tls = "none"\nallow_plaintext_auth = true',
    'tls = "starttls"\ncert_file = "tls.crt"\nkey_file = "tls.key"',
)


def put_certificate(world: ExaminedWorld, name: str, not_after: datetime | None = None) -> None:
    """Put another certificate into the files of the listeners."""
    pem = certificate_pem(name, not_after)
    for file in ("tls.crt", "tls.key"):
        (world.folder / file).write_bytes(pem)


def move_state(world: ExaminedWorld) -> None:
    """Examine a copy of the state folder: the gate that runs has the files open."""
    before = world.state
    shutil.copytree(before, world.folder / "copy", ignore=shutil.ignore_patterns("*.sock"))
    world.change("drain_s = 5", 'drain_s = 5\nstate_dir = "copy"')
    world.state_name = "copy"


def sql(file: Path, statement: str, values: tuple[object, ...] = ()) -> None:
    """Change a database behind the gate's back."""
    with closing(sqlite3.connect(file)) as connection, connection:
        assert connection.execute(statement, values).rowcount


def add_task(world: ExaminedWorld, state: str, created: datetime) -> None:
    """Put a task into the outbox of a copy, which no gate carries out."""
    move_state(world)
    at = round(created.timestamp() * 1_000_000)
    values = ("1" * 32, "event", "message", "bounce", "mail", "to", OWNER, "", state, at, at)
    sql(
        world.state / "journal.sqlite",
        "INSERT INTO journal_tasks (id, event_id, message_id, kind, destination_kind, "
        "destination, account_id, lane, state, created_us, due_us, attempts, answer, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, '', '')",
        values,
    )


async def test_a_listener_that_takes_clients_without_a_certificate_is_looked_at(
    world: ExaminedWorld,
) -> None:
    a_listener_that_asks_for_certificates(world)
    world.change("client_ca_file", 'client_certificate = "optional"\nclient_ca_file')
    await world.gate.reload()
    assert seen(await world.findings("ports")) == set()


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_a_planted_fault_is_found(world: ExaminedWorld, name: str) -> None:
    check, kind, _ = name.split()
    planted = FAULTS[name](world)
    if planted is not None:
        await planted
    findings = await world.findings(check)
    assert kind in {finding.kind for finding in findings}, findings
    others = {finding.row.level for finding in findings if finding.kind != kind}
    assert others <= {"note"}, findings
    assert KINDS[kind].check == check
