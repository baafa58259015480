"""The metrics and the alert rules, checked by Prometheus' own tool."""

import smtplib
import subprocess
import urllib.request
from pathlib import Path
from typing import Final

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, need
from tests.support.gate import LOGIN, SENDER, GatePlan, letter, start_gate
from tests.support.recorder import recorder
from tests.support.source import ROOT

ALERTS: Final = ROOT / "tests" / "cases" / "alerts"


def promtool(*words: str | Path, output: bytes = b"") -> str:
    """Run it in the folder of the alerts' tests, and give what it said if it is content."""
    run = subprocess.run(
        [need("promtool", "prometheus"), *words],
        input=output,
        capture_output=True,
        cwd=ALERTS,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, (run.stdout + run.stderr).decode()
    return run.stdout.decode()


def test_every_alert_fires_when_it_should_and_is_silent_on_a_gate_that_is_well() -> None:
    assert "SUCCESS" in promtool("check", "rules", ROOT / "config" / "prometheus.rules")
    cases = sorted(ALERTS.glob("*.yml"))
    assert cases
    assert "SUCCESS" in promtool("test", "rules", *cases)


def test_a_scrape_of_a_gate_has_nothing_that_prometheus_complains_of(lab: Lab) -> None:
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port))
    with smtplib.SMTP(LOOPBACK, gate.port, timeout=30) as client:
        client.starttls(context=authority.client_context())
        client.login(LOGIN.username, LOGIN.password)
        client.sendmail(SENDER, ["bob@example.net"], letter("scraped", "Hello.\r\n"))
    address = f"http://{LOOPBACK}:{gate.plan.http_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        scrape = answer.read()
    assert b'smtpgate_submissions_total{outcome="accepted",reason="accepted"} 1.0' in scrape
    assert promtool("check", "metrics", output=scrape) == ""
