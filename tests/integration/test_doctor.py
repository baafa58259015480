"""``smtpgate doctor`` beside a gate with workers, with Postfix, dnsmasq and Redis."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab
from tests.support.dnsserver import dns_server
from tests.support.gate import HOSTNAME, Gate, GatePlan, start_gate, txt_records
from tests.support.ledgers import redis_server
from tests.support.postfix import postfix_upstream
from tests.support.smtpsink import smtp_sink
from tests.support.world import DOMAIN_NAME

_NAME, _PASSWORD, _OUTGOING = "mx.example.com", "open sesame", "192.0.2.25"


def examined(
    gate: Gate, authority: Authority, *words: str, module: Sequence[str] = ("smtpgate",)
) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and the findings of the command."""
    command = [sys.executable, "-m", *module, "doctor", "--json", "--config", str(gate.config)]
    done = subprocess.run(
        [*command, "--address", _OUTGOING, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "SSL_CERT_FILE": str(authority.ca_file)},
    )
    assert not done.stderr, done.stderr
    assert _PASSWORD not in done.stdout
    return done.returncode, json.loads(done.stdout)["findings"]


def kinds(findings: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(one["level"], one["kind"]) for one in findings}


def test_a_gate_of_real_parts_is_healthy_and_each_part_that_fails_is_found(lab: Lab) -> None:
    authority = Authority(lab)
    certificate = authority.certificate(_NAME)
    authority.certificate(HOSTNAME).key_file.chmod(0o600)
    sink = smtp_sink(lab)
    upstream = postfix_upstream(
        lab,
        next_port=sink.port,
        cert_file=certificate.cert_file,
        key_file=certificate.key_file,
        username="gate",
        password=_PASSWORD,
        settings={"message_size_limit": 50_000_000},
    )
    redis = redis_server(lab)
    records = {
        **txt_records(),
        DOMAIN_NAME: f"v=spf1 ip4:{_OUTGOING} -all",
        f"_dmarc.{DOMAIN_NAME}": "v=DMARC1; p=reject",
    }
    hosts = [f"host-record={HOSTNAME},{LOOPBACK}", "local=/example.com/"]
    dns = dns_server(lab, records, settings=hosts)
    password = lab.new_folder("password") / "password"
    password.write_text(_PASSWORD)
    password.chmod(0o600)
    plan = GatePlan(
        upstream.port,
        {
            "tls": "required",
            "tls_name": _NAME,
            "ca_file": authority.ca_file,
            "username": "gate@upstream.example.com",
            "password_file": password,
        },
        workers=2,
        sections=f'[dns]\nnameservers = ["{LOOPBACK}:{dns.port}"]\n'
        f'[ledger]\nkind = "redis"\nurl = "{redis.url}"\ntimeout_s = 3\n',
    )
    gate = start_gate(lab, authority, plan)
    status, findings = examined(gate, authority)
    assert not findings, json.dumps(findings, indent=1)
    assert status == 0

    skewed = ("tests.support.skewed", "90")
    status, findings = examined(gate, authority, "--only", "clock", module=skewed)
    assert (status, kinds(findings)) == (0, {("warning", "clock-differs")})
    assert "90 s ahead of it" in findings[0]["problem"]

    status, findings = examined(
        gate, authority, "--only", "upstreams", "--send-test", "jane@example.net"
    )
    assert (status, kinds(findings)) == (0, {("note", "test-sent")})

    upstream.close()
    redis.daemon.signal(signal.SIGKILL)
    gate.terminate()
    status, findings = examined(gate, authority)
    assert status == 1
    assert {
        ("error", "upstream-unreachable"),
        ("error", "ledger-unavailable"),
    } <= kinds(findings)
