from typing import Any, Final

import pytest

from smtpgate.core.proof.dkim_record import (
    CheckKind,
    DkimCheck,
    DkimRecord,
    DkimRecordError,
    compare,
    dkim_name,
    parse_dkim_record,
    unanswered,
)
from smtpgate.core.proof.observation import Absent, Found, Unanswered
from smtpgate.signing.private_keys import dns_record, load_private_key
from tests.support.cases import load_cases
from tests.support.dkim import ed25519_pem, rsa_key
from tests.support.rows import rows

WANTED: Final = "v=DKIM1; k=rsa; p=AAECAwQF"


@rows("case", load_cases("dkim_record/10-parsed.toml"), ids=lambda case: case["note"])
def test_a_record_is_read_as_the_table_says(case: dict[str, Any]) -> None:
    octets = case["record"].encode()
    if "problem" in case:
        with pytest.raises(DkimRecordError) as caught:
            parse_dkim_record(octets)
        assert str(caught.value) == case["problem"]
        return
    says = case["says"]
    assert parse_dkim_record(octets) == DkimRecord(
        public_key=bytes.fromhex(says["p"]),
        key_type=says.get("k", "rsa"),
        hashes=frozenset(says["h"]) if "h" in says else None,
        services=frozenset(says.get("s", ["*"])),
        flags=frozenset(says.get("t", [])),
        notes=says.get("n", ""),
    )


@rows("case", load_cases("dkim_record/20-compared.toml"), ids=lambda case: case["note"])
def test_what_is_published_is_judged_as_the_table_says(case: dict[str, Any]) -> None:
    published = [record.encode() for record in case["published"]]
    assert compare(published, WANTED) == DkimCheck(case["kind"], case["text"])


@pytest.mark.parametrize("record", [
    dns_record(load_private_key(ed25519_pem())),
    dns_record(rsa_key().private_key),
], ids=["ed25519", "rsa"])  # fmt: skip
def test_the_record_of_a_key_of_ours_matches_itself_and_no_other(record: str) -> None:
    assert compare([record.encode()], record).kind == "matches"
    assert compare([record.encode()], WANTED).kind == "differs"
    assert compare([record[:-8].encode()], record).text.startswith(
        "the public key is truncated"
    )


def test_a_record_that_should_be_there_and_is_none_is_a_mistake_of_ours() -> None:
    with pytest.raises(DkimRecordError):
        compare([], "v=DKIM1; k=rsa")


@pytest.mark.parametrize("record", ["k=%s; p=AAEC", "v=%s; p=AAEC", "%s=1; %s=2; p=AAEC"])
def test_no_text_is_as_long_as_a_strangers_record(record: str) -> None:
    long = record.replace("%s", "x" * 60_000).encode()
    assert len(compare([long], WANTED).text) < 250


@pytest.mark.parametrize("kind", ["absent", "differs", "revoked", "several"])
def test_only_a_record_that_matches_proves_who_owns_the_domain(kind: CheckKind) -> None:
    assert DkimCheck(kind, "why").observation == Absent("why")
    assert DkimCheck("matches").observation == Found("dkim")
    assert unanswered("SERVFAIL").observation == Unanswered("SERVFAIL")


def test_the_name_of_a_key_has_its_selector_and_the_domain() -> None:
    assert dkim_name("gate1", "example.com") == "gate1._domainkey.example.com"
