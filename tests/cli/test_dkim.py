"""``smtpgate dkim``: keys made, published, activated, replaced and deleted."""

from asyncio import to_thread
from typing import Any

import pytest

from smtpgate.signing.private_keys import dns_record, generate_private_key, load_private_key
from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.scripted_dns import open_dns
from tests.support.world import DOMAIN, OWNER

PEM = generate_private_key("ed25519")


@pytest.fixture
def stocked(desk: Desk) -> Desk:
    """An account with a verified domain."""
    desk.says("account", "create", OWNER)
    desk.says("identity", "register", DOMAIN, "--trust")
    return desk


def generate(desk: Desk, selector: str) -> dict[str, Any]:
    words = ("dkim", "generate", DOMAIN, "--selector", selector, "--algorithm", "ed25519")
    made: dict[str, Any] = desk.answers(*words)
    return made


def zone(*keys: dict[str, Any]) -> dict[str, list[bytes]]:
    return {key["publish"][0]["name"]: [key["publish"][0]["value"].encode()] for key in keys}


def stages(desk: Desk) -> dict[str, str]:
    return {row["selector"]: row["stage"] for row in desk.answers("dkim", "list")}


def test_a_new_key_waits_and_says_what_to_publish(stocked: Desk) -> None:
    reported = stocked.says("dkim", "generate", DOMAIN)
    (row,) = stocked.answers("dkim", "list")
    assert (row["stage"], row["algorithm"]) == ("pending", "rsa-sha256")
    record = row["publish"][0]
    assert record["name"] == f"{row['selector']}._domainkey.ses-example.com"
    assert record["value"].startswith("v=DKIM1; k=rsa; p=")
    assert f"  {record['name']}. IN TXT ( " in reported
    assert f"`smtpgate dkim activate {DOMAIN} {row['selector']}'" in reported


def test_the_zone_has_the_keys_of_easy_dkim_alone(stocked: Desk) -> None:
    generate(stocked, "mine")
    assert "hosted_zone is not set" in stocked.refuses("dkim", "zone")
    stocked.configure(
        "[directory]", '[signing]\nhosted_zone = "dkim.example.com"\n\n[directory]'
    )
    assert stocked.answers("dkim", "zone") == []


def test_a_second_key_of_a_day_gets_a_selector_of_its_own(stocked: Desk) -> None:
    words = ("dkim", "generate", DOMAIN, "--algorithm", "ed25519")
    first, second, third = (stocked.answers(*words)["selector"] for _ in range(3))
    assert (second, third) == (f"{first}-2", f"{first}-3")


def test_keys_of_both_kinds_are_made_and_sign_together(stocked: Desk) -> None:
    rsa, ed25519 = stocked.answers("dkim", "generate", DOMAIN, "--algorithm", "both")
    assert rsa["selector"].endswith("-rsa")
    assert rsa["publish"][0]["value"].startswith("v=DKIM1; k=rsa; p=")
    assert ed25519["selector"] == rsa["selector"].removesuffix("rsa") + "ed25519"
    assert ed25519["publish"][0]["value"].startswith("v=DKIM1; k=ed25519; p=")
    for key in (rsa, ed25519):
        stocked.says("dkim", "activate", DOMAIN, key["selector"], "--force")
    assert set(stages(stocked).values()) == {"active"}
    reported = stocked.says("dkim", "generate", DOMAIN, "--algorithm", "both")
    for key in (rsa, ed25519):
        assert f"`smtpgate dkim activate {DOMAIN} {key['selector']}-2'" in reported


def test_of_both_kinds_neither_is_kept_when_one_cannot_be(stocked: Desk) -> None:
    generate(stocked, "mail2026-ed25519")
    words = ("dkim", "generate", DOMAIN, "--selector", "mail2026", "--algorithm", "both")
    assert "has a DKIM key `mail2026-ed25519' already" in stocked.refuses(*words)
    assert stages(stocked) == {"mail2026-ed25519": "pending"}


def test_a_key_that_one_has_is_imported(stocked: Desk) -> None:
    file = stocked.file("mail.pem", PEM.decode())
    made = stocked.answers("dkim", "import", DOMAIN, "Mail2026", file)
    assert made["selector"] == "mail2026"
    assert made["publish"][0]["value"] == dns_record(load_private_key(PEM))
    card = stocked.says("dkim", "show", DOMAIN, "MAIL2026")
    assert 'mail2026._domainkey.ses-example.com. IN TXT ( "v=DKIM1; k=ed25519' in card
    assert "PRIVATE" not in card + stocked.says("dkim", "show", DOMAIN, "mail2026", "--json")


async def test_a_key_signs_once_its_record_is_published(stocked: Desk) -> None:
    async with open_dns() as dns:
        stocked.ask_dns_at(dns.port)
        dns.knows({})
        one = await to_thread(generate, stocked, "one")
        reported = await to_thread(stocked.refuses, "dkim", "activate", DOMAIN, "one")
        assert "is not published as it should be: no TXT record is published" in reported
        checked = await to_thread(stocked.give, "dkim", "check", DOMAIN)
        assert (checked.exit_code, "absent" in checked.stdout) == (1, True)
        dns.knows(zone(one))
        assert "matches" in await to_thread(stocked.says, "dkim", "check", DOMAIN)
        reported = await to_thread(stocked.says, "dkim", "activate", DOMAIN, "ONE")
        assert reported == f"DKIM key one signs for {DOMAIN}\n"
    assert await to_thread(stages, stocked) == {"one": "active"}


async def test_a_key_is_replaced_without_an_unsigned_moment(stocked: Desk) -> None:
    async with open_dns() as dns:
        stocked.ask_dns_at(dns.port)
        one = await to_thread(generate, stocked, "one")
        two = await to_thread(generate, stocked, "two")
        dns.knows(zone(one, two))
        await to_thread(stocked.says, "dkim", "activate", DOMAIN, "one")
        reported = await to_thread(stocked.says, "dkim", "activate", DOMAIN, "two")
        assert "key one retires: leave its record published until " in reported
        assert await to_thread(stages, stocked) == {"one": "retiring", "two": "active"}
        reported = await to_thread(stocked.refuses, "dkim", "delete", DOMAIN, "one", "--yes")
        assert "may not be delivered yet" in reported
        # And back again, which is possible as long as it retires.
        await to_thread(stocked.says, "dkim", "activate", DOMAIN, "one")
    assert await to_thread(stages, stocked) == {"one": "active", "two": "retiring"}
    reported = await to_thread(
        stocked.says, "dkim", "delete", DOMAIN, "two", "--yes", "--force"
    )
    assert reported == f"DKIM key two of {DOMAIN} was deleted; remove its DNS record\n"
    assert await to_thread(stages, stocked) == {"one": "active"}


def test_the_last_key_that_signs_is_not_retired_unless_forced(stocked: Desk) -> None:
    generate(stocked, "one")
    stocked.says("dkim", "activate", DOMAIN, "one", "--force")
    assert "no key would sign without `one'" in stocked.refuses("dkim", "retire", DOMAIN, "one")
    reported = stocked.says("dkim", "retire", DOMAIN, "one", "--force")
    assert "key one retires: leave its record published until " in reported
    assert stages(stocked) == {"one": "retiring"}


def test_a_key_that_signs_is_not_deleted(stocked: Desk) -> None:
    generate(stocked, "one")
    stocked.says("dkim", "activate", DOMAIN, "one", "--force")
    reported = stocked.refuses("dkim", "delete", DOMAIN, "one", "--yes", "--force")
    assert "key `one' is active and cannot become retired" in reported


def test_a_key_that_never_signed_is_deleted(stocked: Desk) -> None:
    generate(stocked, "one")
    assert "--yes" in stocked.refuses("dkim", "delete", DOMAIN, "one", status=2)
    stocked.says("dkim", "delete", DOMAIN, "one", "--yes")
    assert stocked.says("dkim", "list") == "no DKIM keys\n"
    assert stocked.says("dkim", "check", DOMAIN).startswith("no DKIM keys")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), {"one", "two"}),
        (("--of", DOMAIN), {"one", "two"}),
        (("--of", f"{OWNER}/example.org"), set()),
        (("--account", OWNER, "--stage", "active"), {"one"}),
        (("--stage", "pending"), {"two"}),
        (("--limit", "1"), {"one"}),
    ],
)
def test_keys_are_listed(stocked: Desk, options: tuple[str, ...], found: set[str]) -> None:
    for selector in ("one", "two"):
        generate(stocked, selector)
    stocked.says("dkim", "activate", DOMAIN, "one", "--force")
    rows = stocked.answers("dkim", "list", *options)
    assert {row["selector"] for row in rows} == found


def test_a_check_is_reported_to_programs_too(stocked: Desk) -> None:
    generate(stocked, "one")
    result = stocked.give("dkim", "check", DOMAIN, "--json")
    assert result.exit_code == 1
    assert '"check": "unanswered"' in result.stdout


@rows(
    "words, status, says",
    [
        (("generate", f"{OWNER}/example.org"), 1, "there is no identity"),
        (("generate", f"{OWNER}/me@ses-example.com"), 1, "there is no identity"),
        (("generate", DOMAIN, "--selector", "a b"), 1, "is no selector"),
        (("generate", DOMAIN, "--algorithm", "dsa"), 2, "dsa"),
        (("import", DOMAIN, "x", "/nonexistent"), 1, "/nonexistent: cannot be read"),
        (("import", DOMAIN, "x", "/dev/null"), 1, "not a private key in PEM"),
        (("show", DOMAIN, "x"), 1, "has no DKIM key `x'"),
        (("activate", DOMAIN, "x"), 1, "there is no DKIM key `x'"),
        (("activate", DOMAIN, "x", "--force"), 1, "there is no DKIM key `x'"),
        (("retire", DOMAIN, "x"), 1, "there is no DKIM key `x'"),
        (("delete", DOMAIN, "x", "--yes"), 1, "has no DKIM key `x'"),
        (("check", f"{OWNER}/example.org"), 1, "there is no identity"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses("dkim", *words, status=status)


def test_an_address_has_no_keys_of_its_own(stocked: Desk) -> None:
    stocked.says("identity", "register", f"{OWNER}/me@ses-example.com", "--trust")
    reported = stocked.refuses("dkim", "generate", f"{OWNER}/me@ses-example.com")
    assert "is signed for with the keys of its domain" in reported
