"""Easy DKIM as domains publish it, in real DNS: CNAMEs to the zone, or TXT records."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import dns.rcode
import dns.rdatatype
import dns.rrset

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.admin.easy_dkim import hosted
from smtpgate.admin.session import operator_session
from smtpgate.config.sections import DnsConfig
from smtpgate.core.proof.nameserver import Nameserver, parse_nameserver
from smtpgate.dns.resolver import DnsResolver
from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client, called
from tests.support.clock import MovableClock
from tests.support.daemons import LOOPBACK, Lab
from tests.support.dns_records import LABEL, MX_HOST
from tests.support.dnsserver import dns_server
from tests.support.inprocess import open_gate
from tests.support.scripted_dns import Query, alias, answer_of, open_dns, soa
from tests.support.verification import worker_of

ROOT: Final = "AKIAOWNERROOT0000000"
ZONE: Final = "dkim.gate.example.com"
SECTIONS: Final = f"""
[api.a]
address = "127.0.0.1"
port = 0
tls = "none"
allow_plaintext = true
[signing]
hosted_zone = "{ZONE}"
"""


async def zone_of(gate: Gate) -> dict[str, str]:
    """The records that ``dkim zone`` prints for the operator."""
    session = operator_session(gate.config, gate.store, gate.clock, name="t", origin="test")
    return {one.name: one.value async for page in hosted(session) for one in page}


async def look(gate: Gate, nameserver: Nameserver, hours: float = 1) -> None:
    """Have the name server asked for what is due then."""
    clock = MovableClock(gate.clock.now() + timedelta(hours=hours))
    resolver = DnsResolver(DnsConfig(nameservers=(nameserver,), timeout_s=1, lifetime_s=2))
    await worker_of(gate.store, DnsChecks(resolver, LABEL, MX_HOST), clock).round()


def aliases(domain: str, tokens: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """The CNAMEs of a domain's selectors."""
    return {
        f"{token}._domainkey.{domain}": f"{target}.{ZONE}"
        for token, target in zip(tokens, targets, strict=True)
    }


def seen(identity: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """The statuses of ownership and of DKIM, and the problem."""
    info = identity["VerificationInfo"]
    return (
        identity["VerificationStatus"],
        identity["DkimAttributes"]["Status"],
        info.get("ErrorType"),
    )


async def test_cnames_and_txt_records_verify_a_domain_and_wrong_ones_say_why(
    lab: Lab, tmp_path: Path
) -> None:
    async with open_gate(tmp_path, sections=SECTIONS) as (gate, _):
        client = aws_client("sesv2", gate.service.apis["a"].port, ROOT)
        tokens: dict[str, list[str]] = {}
        names = "alias", "direct", "one", "swapped", "nothing", "cut"
        for name in (f"{one}.example" for one in names):
            made = await called(client.create_email_identity, EmailIdentity=name)
            tokens[name] = made["DkimAttributes"]["Tokens"]
            assert len(tokens[name]) == 3
        zone = await zone_of(gate)
        assert len(zone) == 3 * len(names)
        txt = dict(zone)
        for token in tokens["direct.example"]:
            txt[f"{token}._domainkey.direct.example"] = zone[f"{token}.{ZONE}"]
        for token in tokens["cut.example"]:
            txt[f"{token}._domainkey.cut.example"] = zone[f"{token}.{ZONE}"][:200]
        first, second, third = tokens["swapped.example"]
        cnames = {
            **aliases("alias.example", tokens["alias.example"], tokens["alias.example"]),
            # One of three is enough to sign.
            **aliases("one.example", tokens["one.example"][:1], tokens["one.example"][:1]),
            **aliases("swapped.example", (first, second, third), (second, third, first)),
        }
        settings = [f"local=/{one}.example/" for one in names] + [f"local=/{ZONE}/"]
        settings += [f"cname={name},{target}" for name, target in cnames.items()]
        server = dns_server(lab, txt, settings=settings)
        await look(gate, parse_nameserver(f"{LOOPBACK}:{server.port}"))
        found = {
            name: await called(client.get_email_identity, EmailIdentity=name) for name in tokens
        }
        assert {name: seen(one) for name, one in found.items()} == {
            "alias.example": ("SUCCESS", "SUCCESS", None),
            "direct.example": ("SUCCESS", "SUCCESS", None),
            "one.example": ("SUCCESS", "SUCCESS", None),
            "swapped.example": ("PENDING", "PENDING", "INVALID_VALUE"),
            "nothing.example": ("PENDING", "PENDING", "TYPE_NOT_FOUND"),
            "cut.example": ("PENDING", "PENDING", "INVALID_VALUE"),
        }
        for name, one in found.items():
            info = one["VerificationInfo"]
            assert "LastCheckedTimestamp" in info
            assert ("LastSuccessTimestamp" in info) == (one["VerificationStatus"] == "SUCCESS")
            assert one["DkimAttributes"]["Tokens"] == tokens[name]
        await gate.service.catch_up()
        raw = b"From: jane@alias.example\r\n\r\nHello.\r\n"
        sent = await called(
            client.send_email,
            Destination={"ToAddresses": ["joe@example.net"]},
            Content={"Raw": {"Data": raw}},
        )
        assert sent["MessageId"]


async def test_a_loop_differs_from_a_target_that_is_not_there(tmp_path: Path) -> None:
    async with open_gate(tmp_path, sections=SECTIONS) as (gate, _), open_dns() as server:
        client = aws_client("sesv2", gate.service.apis["a"].port, ROOT)

        def answered(query: Query) -> Sequence[bytes]:
            asked = query.question[0].name.to_text(omit_final_dot=True).lower()
            if "_domainkey.loop.example" in asked:
                target = asked.removeprefix("x.") if asked.startswith("x.") else f"x.{asked}"
                return [answer_of(query, alias(asked, target))]
            if query.question[0].rdtype == dns.rdatatype.SOA:
                # The zone is the domain itself, or one above it.
                if asked == "loop.example":
                    return [answer_of(query, soa(asked))]
                return [answer_of(query, authority=[soa("zone.example")])]
            records: list[dns.rrset.RRset] = []
            if "_domainkey.dangling.example" in asked:
                records.append(alias(asked, f"gone.{ZONE}"))
            code = dns.rcode.NXDOMAIN
            return [answer_of(query, *records, authority=[soa("example.com")], code=code)]

        server.on_udp = answered
        for name in ("loop.example", "dangling.example"):
            await called(client.create_email_identity, EmailIdentity=name)
        await look(gate, server.nameserver)
        for name, problem in (
            ("loop.example", "DNS_SERVER_ERROR"),
            ("dangling.example", "TYPE_NOT_FOUND"),
        ):
            found = await called(client.get_email_identity, EmailIdentity=name)
            assert seen(found) == ("PENDING", "PENDING", problem)
            zone = "loop.example" if name == "loop.example" else "zone.example"
            assert found["VerificationInfo"]["SOARecord"] == {
                "PrimaryNameServer": f"ns.{zone}",
                "AdminEmail": f"hostmaster.{zone}",
                "SerialNumber": 1,
            }
        # After 72 hours an answer ends it, and no answer does not.
        await look(gate, server.nameserver, hours=73)
        loop = await called(client.get_email_identity, EmailIdentity="loop.example")
        dangling = await called(client.get_email_identity, EmailIdentity="dangling.example")
        assert seen(loop)[0] in ("PENDING", "TEMPORARY_FAILURE")
        assert seen(dangling)[0] == "FAILED"
