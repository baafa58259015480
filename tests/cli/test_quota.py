"""``smtpgate quota``: limits set, raised and shown, with what the ledger says of them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from smtpgate.config import load_config
from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.gate.ledger import new_ledger
from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, OWNER
from tests.support.world import IDENTITY as ARN

USER: Final = f"{DELEGATE}/Mailer"
CAP: Final = (ARN, "--delegate", DELEGATE)
ACCOUNT_ROW: Final = ("account", None, 200, 1, 0, 200)


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts, a user with a key, an identity; nobody has limits of its own."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("user", "create", USER)
    desk.says("key", "create", USER)
    desk.says("identity", "register", DOMAIN)
    return desk.database


@pytest.fixture
def key(stocked: Desk) -> str:
    """The user's access key."""
    ((found,),) = stocked.rows("SELECT id FROM access_keys")
    return str(found)


def send(stocked: Desk, recipients: int, *charges: Charge) -> None:
    """Have the ledger count recipients."""

    async def count() -> None:
        ledger = new_ledger(load_config(stocked.config))
        now = datetime.now(UTC)
        await ledger.commit(await ledger.reserve(charges, recipients, now), recipients, now)
        await ledger.close()

    asyncio.run(count())


def shown(stocked: Desk, whose: str) -> list[tuple[object, ...]]:
    """The subject, its limits, the use and the rest."""
    fields = ("kind", "name", "max_24h_send", "max_send_rate_per_s", "used_24h", "left")
    rows = stocked.answers("quota", "show", whose)
    return [tuple(row[name] for name in fields) for row in rows]


def test_an_account_has_the_configured_limits_until_others_are_set(stocked: Desk) -> None:
    assert shown(stocked, DELEGATE) == [ACCOUNT_ROW]
    limits = ("--max-24h-send", "500", "--max-send-rate", "2.5")
    said = stocked.says("quota", "set", DELEGATE, *limits)
    assert said == f"account {DELEGATE}: 500 recipients in 24 hours, 2.5 a second\n"
    assert shown(stocked, DELEGATE) == [("account", None, 500, 2.5, 0, 500)]
    said = stocked.says("quota", "set", DELEGATE, "--max-24h-send", "default")
    assert said == f"account {DELEGATE}: 200 recipients in 24 hours, 2.5 a second\n"


def test_limits_within_the_account_s_come_and_go(stocked: Desk, key: str) -> None:
    said = [
        stocked.says("quota", "set", f"{DELEGATE}/mailer", "--max-24h-send", "50"),
        stocked.says("quota", "set", key, "--max-send-rate", "0.5"),
        stocked.says("quota", "set", *CAP, "--max-24h-send", "10"),
    ]
    assert said == [
        f"user {USER}: 50 recipients in 24 hours, any number a second\n",
        f"access key {key}: any number of recipients in 24 hours, 0.5 a second\n",
        f"account {DELEGATE} by {ARN}: 10 recipients in 24 hours, any number a second\n",
    ]
    of_user, of_key = ("user", "Mailer", 50, -1, 0, 50), ("access-key", key, -1, 0.5, 0, None)
    cap = ("identity", ARN, 10, -1, 0, 10)
    for whose in (DELEGATE, USER, key):
        assert shown(stocked, whose) == [ACCOUNT_ROW, of_user, of_key, cap]
    assert shown(stocked, OWNER) == [ACCOUNT_ROW, cap]
    assert shown(stocked, ARN) == [cap]
    stocked.says("quota", "set", USER, "--max-24h-send", "default")
    stocked.says("quota", "set", key, "--max-send-rate", "default")
    stocked.says("quota", "set", *CAP, "--max-24h-send", "default")
    assert shown(stocked, DELEGATE) == [ACCOUNT_ROW]
    assert stocked.says("quota", "show", ARN) == "no limits\n"


def test_a_cap_on_an_account_that_is_gone_holds_and_can_be_taken_away(stocked: Desk) -> None:
    stocked.says("account", "create", "777777777777")
    cap = (ARN, "--delegate", "777777777777")
    stocked.says("quota", "set", *cap, "--max-24h-send", "10")
    stocked.says("account", "delete", "777777777777", "--yes")
    assert shown(stocked, ARN) == [("identity", ARN, 10, -1, 0, 10)]
    stocked.says("quota", "set", *cap, "--max-24h-send", "default")
    assert stocked.says("quota", "show", ARN) == "no limits\n"


def test_others_of_the_account_are_not_shown_with_a_user(stocked: Desk, key: str) -> None:
    stocked.says("user", "create", f"{DELEGATE}/other")
    stocked.says("quota", "set", f"{DELEGATE}/other", "--max-24h-send", "5")
    stocked.says("quota", "set", key, "--max-24h-send", "7")
    assert [row[0] for row in shown(stocked, USER)] == ["account", "access-key"]
    assert [row[1] for row in shown(stocked, f"{DELEGATE}/other")] == [None, "other"]


def test_of_a_root_s_key_no_user_is_shown(stocked: Desk) -> None:
    stocked.says("key", "create", DELEGATE)
    ((root_key,),) = stocked.rows("SELECT id FROM access_keys WHERE user_key IS NULL")
    stocked.says("quota", "set", USER, "--max-24h-send", "5")
    stocked.says("quota", "set", str(root_key), "--max-24h-send", "7")
    stocked.says("quota", "set", *CAP, "--max-24h-send", "9")
    assert [row[:3] for row in shown(stocked, str(root_key))] == [
        ("account", None, 200),
        ("access-key", root_key, 7),
        ("identity", ARN, 9),
    ]


def test_a_raise_holds_until_it_ends(stocked: Desk) -> None:
    said = stocked.says("quota", "raise", DELEGATE, "--max-24h-send", "1000", "--until", "3d")
    words, _, until = said.partition(", until ")
    assert words == f"account {DELEGATE}: 1000 recipients in 24 hours, 1 a second"
    (row,) = stocked.answers("quota", "show", DELEGATE)
    assert (row["max_24h_send"], row["left"]) == (1000, 1000)
    assert f"{datetime.fromisoformat(row['raised_until']):%Y-%m-%d %H:%M:%SZ}\n" == until
    assert until.strip() in stocked.says("quota", "show", DELEGATE)
    said = stocked.says("quota", "raise", DELEGATE, "--end")
    assert said == f"account {DELEGATE}: 200 recipients in 24 hours, 1 a second\n"
    (row,) = stocked.answers("quota", "show", DELEGATE)
    assert (row["max_24h_send"], row["raised_until"]) == (200, None)


def test_a_caller_that_sets_a_limit_that_is_raised_is_shown_the_raise(stocked: Desk) -> None:
    stocked.says("quota", "raise", DELEGATE, "--max-24h-send", "1000", "--until", "3d")
    (row,) = stocked.answers("quota", "show", DELEGATE)
    until = f"{datetime.fromisoformat(row['raised_until']):%Y-%m-%d %H:%M:%SZ}"
    usual = f"account {DELEGATE}: 0 recipients in 24 hours, 1 a second"
    assert stocked.says("quota", "set", DELEGATE, "--max-24h-send", "0") == (
        f"{usual}; but raised until {until}: 1000 recipients in 24 hours, 1 a second\n"
    )
    said = stocked.says("quota", "set", DELEGATE, "--max-24h-send", "2000")
    assert said == f"account {DELEGATE}: 2000 recipients in 24 hours, 1 a second\n"
    stocked.says("quota", "raise", DELEGATE, "--end")
    assert stocked.says("quota", "set", DELEGATE, "--max-24h-send", "0") == f"{usual}\n"


def test_a_raise_that_has_ended_is_not_shown(stocked: Desk) -> None:
    stocked.says("quota", "raise", DELEGATE, "--max-24h-send", "1000", "--until", "3d")
    stocked.sql("UPDATE quotas SET raised_until = '2026-01-01 00:00:00.000000'")
    (row,) = stocked.answers("quota", "show", DELEGATE)
    assert (row["max_24h_send"], row["raised_until"]) == (200, None)


def test_what_is_used_and_when_it_frees_comes_from_the_ledger(stocked: Desk, key: str) -> None:
    stocked.says("quota", "set", USER, "--max-24h-send", "5")
    send(
        stocked,
        5,
        Charge(Subject(DELEGATE), SendingLimits(200, 1)),
        Charge(Subject(DELEGATE, "user", "Mailer"), SendingLimits(5, -1)),
    )
    account, user = stocked.answers("quota", "show", DELEGATE)
    assert (account["used_24h"], account["left"], account["rate_left"]) == (5, 195, 0)
    assert 0 < account["wait_s"] <= 5
    assert (user["used_24h"], user["left"], user["rate_left"]) == (5, 0, None)
    assert 86_000 < user["wait_s"] <= 86_460
    table = stocked.says("quota", "show", DELEGATE)
    assert "24:0" in table
    stocked.says("quota", "set", *CAP, "--max-24h-send", "9")
    send(stocked, 2, Charge(Subject(DELEGATE, "identity", ARN), SendingLimits(9, -1)))
    assert shown(stocked, ARN) == [("identity", ARN, 9, -1, 2, 7)]


def test_limits_that_are_set_outlive_the_documents_that_say_others(stocked: Desk) -> None:
    said = f"[accounts.{DELEGATE}]\nmax_24h_send = 100\n"
    documents = stocked.file("accounts.toml", said)
    stocked.configure("[directory]\n", '[directory]\napply = "accounts.toml"\n')
    stocked.says("apply", documents)
    for words in (("quota", "set", DELEGATE), ("account", "set", DELEGATE)):
        result = stocked.give(*words, "--max-24h-send", "5")
        assert (result.exit_code, result.stderr) == (0, "")
        reported = stocked.says("apply", documents)
        assert reported.endswith("max_24h_send: 100 in the documents, 5 in the directory\n")


def test_a_ledger_that_was_never_written_is_not_made(stocked: Desk) -> None:
    assert shown(stocked, DELEGATE) == [ACCOUNT_ROW]
    assert not (stocked.folder / "state" / "ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("ledger", "says"),
    [
        (
            'kind = "memory"',
            'what is left is not known: ledger.kind is "memory": only the running gate',
        ),
        ('path = "."', "what is left is not known: "),
        (
            'kind = "redis"\nurl = "redis://127.0.0.1:9/0"\ntimeout_s = 0.2',
            "what is left is not known: ",
        ),
    ],
)
def test_limits_are_shown_also_when_nobody_knows_what_is_left(
    stocked: Desk, ledger: str, says: str
) -> None:
    stocked.configure("[dns]", f"[ledger]\n{ledger}\n[dns]")
    result = stocked.give("quota", "show", DELEGATE, "--json")
    assert result.exit_code == 0, result.output
    assert f"warning: {says}" in result.stderr
    assert '"max_24h_send": 200' in result.stdout
    assert '"used_24h": null' in result.stdout


@rows(
    "words, status, says",
    [
        (("show", "nobody"), 2, "`nobody' is neither ACCOUNT, ACCOUNT/USER, an access"),
        (("show", "123456789012"), 1, "there is no account 123456789012"),
        (("show", f"{DELEGATE}/nobody"), 1, f"there is no user {DELEGATE}/nobody"),
        (("show", "AKIANOBODY0000000000"), 1, "there is no access key AKIANOBODY0000000000"),
        (("show", ARN.replace("ses-", "no-")), 1, "there is no identity"),
        (("show", ARN.replace("us-east-1", "eu-west-1")), 1, "is not of this gate's region"),
        (("set", DELEGATE), 2, "say what to change: --max-24h-send"),
        (
            ("set", DELEGATE, "--max-24h-send", "many"),
            2,
            "`many' is not a number, unlimited",
        ),
        (("set", DELEGATE, "--max-24h-send", "-7"), 1, "max_24h_send: must be 0 or more"),
        (("set", USER, "--max-send-rate", "0"), 1, "max_send_rate_per_s: must be more than 0"),
        (("set", ARN, "--max-24h-send", "1"), 2, "say which account the identity caps"),
        (
            ("set", USER, *CAP[1:], "--max-24h-send", "1"),
            2,
            "--delegate goes with",
        ),
        (("set", ARN, "--delegate", OWNER, "--max-24h-send", "1"), 1, "an owner does not cap"),
        (("set", ARN, "--delegate", "7", "--max-24h-send", "1"), 2, "12 digits"),
        (
            ("set", ARN, "--delegate", "999999999998", "--max-24h-send", "1"),
            1,
            "there is no account 999999999998",
        ),
        (("raise", DELEGATE, "--max-24h-send", "999"), 2, "and --until"),
        (("raise", DELEGATE, "--until", "3d"), 2, "a raise needs --max-24h-send or"),
        (
            ("raise", DELEGATE, "--max-24h-send", "default", "--until", "3d"),
            2,
            "a raise is to a number or unlimited",
        ),
        (("raise", DELEGATE, "--until", "3d", "--end"), 2, "--end goes with no other option"),
        (
            ("raise", DELEGATE, "--max-24h-send", "999", "--until", "2020-01-01"),
            2,
            "--until: `2020-01-01' has passed already",
        ),
        (
            ("raise", DELEGATE, "--max-24h-send", "200", "--until", "3d"),
            1,
            "max_24h_send: 200 is no more than the usual 200",
        ),
        (
            ("raise", USER, "--max-24h-send", "200", "--until", "3d"),
            1,
            "max_24h_send: there is no limit to raise",
        ),
        (
            ("raise", DELEGATE, "--max-send-rate", "1e9", "--until", "3d"),
            1,
            "raised_send_rate_per_s: must be more than 0",
        ),
    ],
)
def test_what_makes_no_sense_is_reported_and_changes_nothing(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    before = stocked.rows("SELECT count(*) FROM audit_log")
    result = stocked.give("quota", *words)
    assert result.exit_code == status, result.output
    assert says in " ".join(result.output.replace("│", " ").split())
    assert stocked.rows("SELECT count(*) FROM audit_log") == before
