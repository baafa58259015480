"""``smtpgate identity``: registered, proved, shown, paused and deleted."""

import email.policy
import re
from asyncio import to_thread
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.scripted_dns import open_dns
from tests.support.upstream_server import open_upstream
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant
from tests.support.world import IDENTITY as ARN

ADDRESS = f"{OWNER}/ceo@ses-example.com"


@pytest.fixture(scope="module")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The announcement's two accounts."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), sqlite_template)
    desk.says("account", "create", OWNER, "--name", "Identity owner")
    desk.says("account", "create", DELEGATE)
    return desk.database


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['account']}/{row['name']}" for row in rows]


# -- registered --------------------------------------------------------------------------------


def test_registering_a_domain_says_what_to_publish(stocked: Desk) -> None:
    made = stocked.answers("identity", "register", DOMAIN)
    assert (made["arn"], made["status"], made["method"]) == (ARN, "pending", None)
    usual, at_domain = made["publish"]
    assert usual["name"] == "_smtpgate.ses-example.com"
    assert at_domain == {
        "name": "ses-example.com",
        "type": "TXT",
        "value": f"smtpgate:{usual['value']}",
    }
    reported = stocked.says("identity", "register", f"{OWNER}/Example.NET")
    shown = stocked.answers("identity", "show", f"{OWNER}/example.net")
    token = shown["publish"][0]["value"]
    assert token != usual["value"]
    assert f'  _smtpgate.example.net. IN TXT ( "{token}" )\n' in reported
    assert f"`smtpgate identity verify {OWNER}/example.net'" in reported


def test_people_read_that_a_proved_identity_is_verified_and_programs_ses_word(
    stocked: Desk,
) -> None:
    stocked.says("identity", "register", DOMAIN, "--trust")
    for words in (("list",), ("show", DOMAIN)):
        assert "verified" in stocked.says("identity", *words).split()
        assert "success" not in stocked.says("identity", *words)
    assert stocked.answers("identity", "show", DOMAIN)["status"] == "success"
    stocked.says("identity", "register", f"{OWNER}/example.net")
    assert "pending" in stocked.says("identity", "list").split()


def test_the_label_is_the_configurations(stocked: Desk) -> None:
    stocked.configure("[directory]", '[directory]\nverification_label = "_amazonses"')
    (usual, at_domain) = stocked.answers("identity", "register", DOMAIN)["publish"]
    assert usual["name"] == "_amazonses.ses-example.com"
    assert at_domain["value"] == f"amazonses:{usual['value']}"


def test_an_operator_may_vouch_and_the_audit_log_says_so(stocked: Desk) -> None:
    reported = stocked.says("identity", "register", DOMAIN, "--trust")
    assert reported.endswith("it is verified, on your word\n")
    shown = stocked.answers("identity", "show", DOMAIN)
    assert (shown["status"], shown["method"]) == ("success", "trust")
    stocked.says("identity", "register", ADDRESS)
    assert stocked.answers("identity", "show", ADDRESS)["status"] == "not-started"
    assert stocked.says("identity", "verify", ADDRESS, "--trust") == (
        f"identity {ADDRESS} is verified (trust)\n"
    )
    assert stocked.rows("SELECT name, action FROM audit_log WHERE kind = 'identity'") == [
        ("ses-example.com", "create"),
        ("ses-example.com", "vouch"),
        ("ceo@ses-example.com", "create"),
        ("ceo@ses-example.com", "vouch"),
    ]


def test_an_identity_is_named_by_its_arn_too(stocked: Desk) -> None:
    stocked.says("identity", "register", ARN)
    assert stocked.answers("identity", "show", ARN) == stocked.answers(
        "identity", "show", DOMAIN
    )


@pytest.fixture(scope="module")
def furnished_with_three(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with identities: one verified, one paused, one pending."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), furnished)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("identity", "register", ADDRESS)
    desk.says("identity", "register", f"{DELEGATE}/ses-example.com")
    desk.says("identity", "pause", ADDRESS, "--reason", "a test")
    return desk.database


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), [DOMAIN, ADDRESS, f"{DELEGATE}/ses-example.com"]),
        (("--account", OWNER), [DOMAIN, ADDRESS]),
        (("--name", "ses-example.com"), [DOMAIN, f"{DELEGATE}/ses-example.com"]),
        (("--domain", "ses-example.com", "--limit", "2"), [DOMAIN, ADDRESS]),
        (("--state", "success"), [DOMAIN]),
        (("--state", "pending"), [f"{DELEGATE}/ses-example.com"]),
        (("--paused",), [ADDRESS]),
        (("--domain", "example.org"), []),
    ],
)
def test_identities_are_listed(
    furnished_with_three: Path, tmp_path: Path, options: tuple[str, ...], found: list[str]
) -> None:
    stocked = Desk(tmp_path, furnished_with_three)
    rows = stocked.answers("identity", "list", *options)
    assert sorted(names(rows)) == sorted(found)
    shown = stocked.says("identity", "list", *options)
    assert all(name in shown for name in found)
    assert found or shown == "no identities\n"


def test_an_identity_is_shown_with_policies_and_keys(stocked: Desk) -> None:
    stocked.says("identity", "register", DOMAIN)
    stocked.says("identity", "policy", "put", DOMAIN, "marketing", "-", stdin=grant())
    stocked.says("dkim", "generate", DOMAIN, "--selector", "one", "--algorithm", "ed25519")
    shown = stocked.answers("identity", "show", DOMAIN)
    assert [policy["name"] for policy in shown["policies"]] == ["marketing"]
    assert [key["selector"] for key in shown["dkim_keys"]] == ["one"]
    card = stocked.says("identity", "show", DOMAIN)
    for words in ("marketing", "one", "ed25519-sha256", "_smtpgate.ses-example.com. IN TXT"):
        assert words in card


def test_an_identity_is_paused_and_resumed(stocked: Desk) -> None:
    stocked.says("identity", "register", DOMAIN, "--trust")
    stocked.says("identity", "pause", DOMAIN, "--reason", "its key was stolen")
    assert stocked.answers("identity", "show", DOMAIN)["paused_reason"] == "its key was stolen"
    stocked.says("identity", "resume", DOMAIN)
    assert stocked.answers("identity", "show", DOMAIN)["paused_reason"] is None


def test_an_identity_is_deleted_with_what_hangs_on_it(stocked: Desk) -> None:
    stocked.says("identity", "register", DOMAIN)
    stocked.says("dkim", "generate", DOMAIN, "--algorithm", "ed25519")
    assert "--yes" in stocked.refuses("identity", "delete", DOMAIN, status=2)
    stocked.says("identity", "delete", DOMAIN, "--yes")
    assert stocked.answers("identity", "list") == []
    assert stocked.answers("dkim", "list") == []


@rows(
    "words, status, says",
    [
        (("register", "123456789012/example.com"), 1, "there is no account 123456789012"),
        (("register", OWNER), 2, "write ACCOUNT/NAME, or its ARN"),
        (("register", f"{OWNER}/no domain"), 2, "is neither a domain nor an address"),
        (
            ("register", ARN.replace("us-east-1", "eu-west-1")),
            1,
            "is not of this gate's region",
        ),
        (("register", ARN.replace("arn:aws:", "arn:aws-cn:")), 1, "partition aws"),
        (("show", DOMAIN), 1, f"there is no identity {DOMAIN} in region us-east-1"),
        (("verify", DOMAIN), 1, f"there is no identity {DOMAIN}"),
        (("verify", DOMAIN, "--trust"), 1, f"there is no identity {DOMAIN}"),
        (("confirm", ADDRESS, "0000-0000-0000"), 1, f"there is no identity {ADDRESS}"),
        (("pause", DOMAIN, "--reason", "x"), 1, f"there is no identity {DOMAIN}"),
        (("delete", DOMAIN, "--yes"), 1, f"there is no identity {DOMAIN}"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses("identity", *words, status=status)


# -- proved by the DNS -------------------------------------------------------------------------


async def test_a_domain_is_verified_once_its_record_is_published(stocked: Desk) -> None:
    async with open_dns() as dns:
        stocked.ask_dns_at(dns.port)
        dns.knows({})
        made = await to_thread(stocked.answers, "identity", "register", DOMAIN)
        reported = await to_thread(stocked.refuses, "identity", "verify", DOMAIN)
        assert reported.startswith(f"identity {DOMAIN} is not verified yet: no TXT record at ")
        record = made["publish"][0]
        dns.knows({record["name"]: [record["value"].encode()]})
        reported = await to_thread(stocked.says, "identity", "verify", DOMAIN)
        assert reported == f"identity {DOMAIN} is verified (txt)\n"
        shown = await to_thread(stocked.answers, "identity", "show", DOMAIN)
        assert (shown["status"], shown["method"], shown["problem"]) == ("success", "txt", None)


async def test_a_record_that_is_gone_does_not_end_it_at_once_but_is_reported(
    stocked: Desk,
) -> None:
    async with open_dns() as dns:
        stocked.ask_dns_at(dns.port)
        made = await to_thread(stocked.answers, "identity", "register", DOMAIN)
        record = made["publish"][1]
        dns.knows({record["name"]: [b"v=spf1 -all", record["value"].encode()]})
        await to_thread(stocked.says, "identity", "verify", DOMAIN)
        dns.knows({})
        reported = await to_thread(stocked.refuses, "identity", "verify", DOMAIN)
        assert "but its record is missing now: no TXT record" in reported
        shown = await to_thread(stocked.answers, "identity", "show", DOMAIN)
        assert shown["status"] == "success"
        assert shown["missing_since"] is not None


async def test_a_dkim_record_of_its_own_key_proves_a_domain(stocked: Desk) -> None:
    async with open_dns() as dns:
        stocked.ask_dns_at(dns.port)
        await to_thread(stocked.says, "identity", "register", DOMAIN)
        words = ("dkim", "generate", DOMAIN, "--algorithm", "ed25519")
        (record,) = (await to_thread(stocked.answers, *words))["publish"]
        dns.knows({record["name"]: [record["value"].encode()]})
        reported = await to_thread(stocked.says, "identity", "verify", DOMAIN)
        assert reported == f"identity {DOMAIN} is verified (dkim)\n"


def test_a_name_server_that_does_not_answer_is_reported(stocked: Desk) -> None:
    stocked.says("identity", "register", DOMAIN)
    reported = stocked.refuses("identity", "verify", DOMAIN)
    assert f"identity {DOMAIN} is not verified yet: " in reported
    assert "127.0.0.1:9" in reported


# -- proved by mail ----------------------------------------------------------------------------


def code_in(message: bytes) -> str:
    found = re.search(rb"^    ([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\r$", message, re.MULTILINE)
    assert found is not None
    return found[1].decode()


async def test_an_address_is_verified_by_the_code_that_was_mailed_to_it(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        reported = await to_thread(stocked.says, "identity", "register", ADDRESS)
        assert f"mail a code to it: `smtpgate identity verify {ADDRESS}'" in reported
        reported = await to_thread(stocked.says, "identity", "verify", ADDRESS)
        assert "a code, valid for 24 hours, was mailed to ceo@ses-example.com" in reported
        (message,) = upstream.messages
        code = code_in(message)
        assert code not in reported
        wrong = await to_thread(
            stocked.refuses, "identity", "confirm", ADDRESS, "0000-0000-0000"
        )
        assert wrong == "that is not the code; 4 more attempts "
        typed = code.lower().replace("-", " ")
        reported = await to_thread(stocked.says, "identity", "confirm", ADDRESS, typed)
        assert reported == f"identity {ADDRESS} is verified (mail)\n"
        shown = await to_thread(stocked.answers, "identity", "show", ADDRESS)
        assert (shown["status"], shown["publish"]) == ("success", [])
        again = await to_thread(stocked.says, "identity", "verify", ADDRESS)
        assert again == f"identity {ADDRESS} is verified (mail)\n"
        assert len(upstream.messages) == 1


async def test_the_mail_says_who_asked_and_is_known_to_be_a_machines(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        stocked.environment |= {"SUDO_USER": "jane", "SSH_CLIENT": "192.0.2.7 50000 22"}
        await to_thread(stocked.says, "identity", "verify", ADDRESS)
        (visit,) = upstream.visits
        assert [line for line in visit.commands if line.startswith(("MAIL", "RCPT"))] == [
            "MAIL FROM:<>",
            "RCPT TO:<ceo@ses-example.com>",
        ]
    message = message_from_bytes(visit.messages[0], policy=email.policy.default)
    assert message["From"] == "smtpgate@gate.example.com"
    assert message["To"] == "ceo@ses-example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@gate.example.com>")
    text = message.get_content()
    assert "jane (cli on " in text
    assert "from 192.0.2.7)" in text
    assert f"The account {OWNER} (Identity owner) wants to send mail" in text


async def test_a_code_that_the_upstream_refuses_leaves_everything_as_it_was(
    stocked: Desk,
) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        upstream.answers["RCPT"] = "550 5.1.1 no such user"
        reported = await to_thread(stocked.refuses, "identity", "verify", ADDRESS)
        assert "the upstream refused the mail: 550 5.1.1 no such user" in reported
        shown = await to_thread(stocked.answers, "identity", "show", ADDRESS)
        assert shown["status"] == "not-started"
        upstream.answers.clear()
        await to_thread(stocked.says, "identity", "verify", ADDRESS)


def test_an_upstream_that_is_not_there_is_reported(stocked: Desk) -> None:
    stocked.says("identity", "register", ADDRESS)
    assert "the mail was not sent: " in stocked.refuses("identity", "verify", ADDRESS)


async def test_an_address_is_not_flooded_with_codes(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        await to_thread(stocked.says, "identity", "verify", ADDRESS)
        reported = await to_thread(stocked.refuses, "identity", "verify", ADDRESS)
        assert "less than a minute ago" in reported
        assert len(upstream.messages) == 1


async def test_each_code_that_is_sent_is_in_the_audit_log(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        for _ in range(2):
            await to_thread(stocked.says, "identity", "verify", ADDRESS)
            stocked.sql("UPDATE identities SET code_sent_at = '2020-01-01 00:00:00.000000'")
    sent = await to_thread(stocked.answers, "audit", "list", "--action", "send-code")
    assert [entry["name"] for entry in sent] == ["ceo@ses-example.com"] * 2
    assert code_in(upstream.messages[1]) != code_in(upstream.messages[0])


async def test_after_five_attempts_a_code_is_worth_nothing(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        await to_thread(stocked.says, "identity", "verify", ADDRESS)
        code = code_in(upstream.messages[0])
        for _ in range(5):
            await to_thread(stocked.refuses, "identity", "confirm", ADDRESS, "0000-0000-0000")
        reported = await to_thread(stocked.refuses, "identity", "confirm", ADDRESS, code)
        assert "too many wrong codes" in reported


def test_a_code_that_nobody_sent_is_reported(stocked: Desk) -> None:
    stocked.says("identity", "register", ADDRESS)
    reported = stocked.refuses("identity", "confirm", ADDRESS, "0000-0000-0000")
    assert reported.startswith("no code is expected for this address; request one")


async def test_a_code_expires(stocked: Desk) -> None:
    async with open_upstream() as upstream:
        stocked.relay_to(upstream.port)
        await to_thread(stocked.says, "identity", "register", ADDRESS)
        await to_thread(stocked.says, "identity", "verify", ADDRESS)
        code = code_in(upstream.messages[0])
    stocked.sql("UPDATE identities SET code_sent_at = '2020-01-01 00:00:00.000000'")
    reported = await to_thread(stocked.refuses, "identity", "confirm", ADDRESS, code)
    assert reported.startswith("the code has expired")
