"""The resolver, and what is decided from its answers, against a real name server."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from smtpgate.config.sections import DnsConfig
from smtpgate.core.proof.dkim_record import compare, dkim_name
from smtpgate.core.proof.nameserver import parse_nameserver
from smtpgate.core.proof.observation import Absent, combined
from smtpgate.core.proof.ownership import new_token, ownership_records, token_seen
from smtpgate.core.proof.verification import NOT_STARTED, begin, observed
from smtpgate.dns.resolver import DnsResolver
from smtpgate.ports import ResolverError
from smtpgate.signing.private_keys import dns_record
from tests.support.daemons import Lab
from tests.support.dkim import rsa_key
from tests.support.dnsserver import dns_server

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TOKEN: Final = new_token(bytes(range(32)))
KEY_RECORD: Final = dns_record(rsa_key().private_key)
MANY: Final = [f"{number:03}{'x' * 90}" for number in range(30)]
RECORDS: Final = {
    "_smtpgate.example.com": TOKEN,
    "there.example.com": f"smtpgate:{TOKEN}",
    dkim_name("gate1", "example.com"): KEY_RECORD,
    dkim_name("cut", "example.com"): KEY_RECORD[:255],
}
SETTINGS: Final = [
    "local=/example.com/",  # what is not known there does not exist
    "host-record=address.example.com,192.0.2.1",
    "cname=_smtpgate.alias.example.com,_smtpgate.example.com",
    "cname=selector._domainkey.alias.example.com,gate1._domainkey.example.com",
    "cname=address.alias.example.com,address.example.com",
    *[f'txt-record=many.example.com,"{text}"' for text in MANY],
]


@pytest.fixture(scope="module")
def port(shared_lab: Lab) -> int:
    """A name server that has the records."""
    return dns_server(shared_lab, RECORDS, settings=SETTINGS).port


@pytest.fixture
def resolver(port: int) -> DnsResolver:
    return DnsResolver(DnsConfig(nameservers=(parse_nameserver(f"127.0.0.1:{port}"),)))


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("_smtpgate.example.com", [TOKEN]),
        ("_SMTPGATE.Example.Com", [TOKEN]),
        ("_smtpgate.alias.example.com", [TOKEN]),
        ("gate1._domainkey.example.com", [KEY_RECORD]),
        ("selector._domainkey.alias.example.com", [KEY_RECORD]),
        ("many.example.com", MANY),
        ("address.example.com", []),
        ("address.alias.example.com", []),
        ("nowhere.example.com", []),
    ],
)
async def test_the_records_of_a_name_are_those_that_were_published(
    resolver: DnsResolver, name: str, records: list[str]
) -> None:
    found = await resolver.txt(name)
    assert sorted(found) == sorted(record.encode() for record in records)


async def test_a_server_that_refuses_has_not_said_that_there_is_nothing(
    resolver: DnsResolver,
) -> None:
    with pytest.raises(ResolverError, match="REFUSED"):
        await resolver.txt("_smtpgate.example.net")


@pytest.mark.parametrize(
    ("domain", "state"),
    [
        ("example.com", "success"),
        ("alias.example.com", "success"),
        ("there.example.com", "success"),
        ("nowhere.example.com", "failed"),
    ],
)
async def test_a_domain_is_verified_by_its_token_at_either_place(
    resolver: DnsResolver, domain: str, state: str
) -> None:
    seen = combined(
        [
            token_seen(record, await resolver.txt(record.name))
            for record in ownership_records(domain, TOKEN)
        ]
    )
    current = begin(NOT_STARTED, START)
    assert observed(current, seen, START + timedelta(hours=72), 0.5).state == state


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (dkim_name("gate1", "example.com"), "matches"),
        (dkim_name("selector", "alias.example.com"), "matches"),
        (dkim_name("cut", "example.com"), "differs"),
        (dkim_name("other", "example.com"), "absent"),
        ("many.example.com", "several"),
    ],
)
async def test_a_key_is_compared_with_what_is_published(
    resolver: DnsResolver, name: str, kind: str
) -> None:
    assert compare(await resolver.txt(name), KEY_RECORD).kind == kind


async def test_what_forms_cut_off_is_reported(resolver: DnsResolver) -> None:
    check = compare(await resolver.txt(dkim_name("cut", "example.com")), KEY_RECORD)
    assert isinstance(check.observation, Absent)
    assert "truncated" in check.text
