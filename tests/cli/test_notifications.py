"""``smtpgate topic`` and ``subscription``, notifications of identities, configuration sets."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.desk import Desk
from tests.support.world import DELEGATE, DOMAIN, IDENTITY, OWNER

TOPIC: Final = f"{OWNER}/bounces"
THEIRS: Final = f"{DELEGATE}/ours"
SET: Final = f"{DELEGATE}/spring"
URL: Final = "https://hooks.example.com/ses"
LOOPBACK: Final = "https://127.0.0.1/"
ARN: Final = re.compile(r"arn:aws:sns:us-east-1:[0-9]{12}:bounces:[0-9a-f-]{36}")


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts with a topic each, and an identity of one."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("topic", "create", TOPIC)
    desk.says("topic", "create", THEIRS)
    return desk.database


def test_a_topic_is_made_changed_and_deleted(desk_with_accounts: Desk) -> None:
    desk = desk_with_accounts
    made = desk.answers("topic", "create", TOPIC, "--signature", "2")
    assert made["arn"] == "arn:aws:sns:us-east-1:888888888888:bounces"
    assert made["signature_version"] == "2"
    desk.says("topic", "set", TOPIC, "--signature", "1")
    assert desk.answers("topic", "show", made["arn"])["signature_version"] == "1"
    assert [one["name"] for one in desk.answers("topic", "list")] == ["bounces"]
    desk.says("topic", "delete", TOPIC, "--yes")
    assert desk.answers("topic", "list") == []
    assert "there is no topic" in desk.refuses("topic", "show", TOPIC)


@pytest.fixture
def desk_with_accounts(two_accounts: Path, tmp_path: Path) -> Desk:
    """A desk with the two accounts alone."""
    return Desk(tmp_path, two_accounts)


def test_a_raw_subscription_shows_its_secret_once(stocked: Desk) -> None:
    said = stocked.says("subscription", "create", TOPIC, URL, "--form", "raw", "--trust")
    (arn,) = ARN.findall(said)
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", said)
    shown = stocked.answers("subscription", "show", arn)
    assert (shown["state"], shown["endpoint"], shown["form"]) == ("confirmed", URL, "raw")
    assert secret not in stocked.says("subscription", "show", arn)
    assert secret not in stocked.says("audit", "list", "--json")
    stocked.says("subscription", "delete", arn, "--yes")
    assert stocked.answers("subscription", "list") == []


def test_the_receiver_s_own_secret_is_taken_from_a_file(stocked: Desk) -> None:
    file = stocked.folder / "secret"
    file.write_text("whsec_" + "A" * 32 + "\n")
    file.chmod(0o600)
    create = ("subscription", "create", TOPIC, URL, "--form", "raw", "--trust")
    said = stocked.says(*create, "--secret-file", str(file))
    assert "whsec_" not in said
    file.write_text("short\n")
    assert "whsec_" in stocked.refuses(*create, "--secret-file", str(file))


def test_a_token_that_does_not_arrive_is_reported_and_can_be_sent_again(stocked: Desk) -> None:
    made = stocked.answers(
        "subscription", "create", TOPIC, "https://127.0.0.1/", "--form", "raw"
    )
    assert made["state"] == "pending"
    assert "no public address" in made["problem"]
    said = stocked.refuses("subscription", "resend", made["arn"])
    assert "no public address" in said
    assert "wrong" in stocked.refuses("subscription", "confirm", made["arn"], "00")
    stocked.says("subscription", "confirm", made["arn"], "--trust")
    assert stocked.answers("subscription", "show", made["arn"])["state"] == "confirmed"
    assert "confirmed already" in stocked.refuses("subscription", "resend", made["arn"])


def test_what_cannot_be_subscribed_is_refused_with_the_reason(stocked: Desk) -> None:
    create = ("subscription", "create", TOPIC)
    assert "notifications.base_url" in stocked.refuses(*create, URL)
    assert "https://" in stocked.refuses(*create, "http://hooks.example.com/", "--form", "raw")
    assert "operator" in stocked.refuses(*create, URL, "--form", "listmonk")
    assert "address" in stocked.refuses(*create, "nobody", "--form", "email")
    assert "pass" not in stocked.refuses(*create, "https://me:pass@x y/", "--form", "raw")


def test_owner_and_delegate_set_notifications_each(stocked: Desk) -> None:
    notifications = ("identity", "notifications")
    stocked.says(
        *(*notifications, "set", DOMAIN),
        *("--bounce-topic", "bounces", "--complaint-topic", "bounces"),
        *("--headers", "bounce", "--forwarding", "off"),
    )
    stocked.says(
        *(*notifications, "set", IDENTITY, "--for", DELEGATE, "--delivery-topic", "ours")
    )
    own = stocked.answers(*notifications, "show", DOMAIN)
    assert (own["bounce_topic"], own["bounce_headers"]) == ("bounces", True)
    assert (own["complaint_headers"], own["forwarding"]) == (False, False)
    said = stocked.refuses(*notifications, "set", DOMAIN, "--headers", "bounces", status=2)
    assert "--headers: `bounces' is none of bounce, complaint, delivery" in said
    theirs = stocked.answers(*notifications, "show", IDENTITY, "--for", DELEGATE)
    assert (theirs["delivery_topic"], theirs["forwarding"]) == ("ours", None)
    assert len(stocked.answers(*notifications, "list", DELEGATE)) == 1
    said = stocked.refuses(*notifications, "set", DOMAIN, "--complaint-topic", "none")
    assert "forwarding can be off only" in said
    stocked.says(
        *notifications, "set", DOMAIN, "--complaint-topic", "none", "--forwarding", "on"
    )


def test_a_configuration_set_has_destinations_and_can_be_a_default(stocked: Desk) -> None:
    group = "configuration-set"
    stocked.says(group, "create", SET)
    stocked.says(
        *(group, "add-destination", SET, "all", "--types", "send,bounce", "--topic", "ours")
    )
    (found,) = stocked.answers(group, "list")
    assert found["destinations"][0]["types"] == ["SEND", "BOUNCE"]
    stocked.says(group, "set-destination", SET, "all", "--no-enabled")
    stocked.says(group, "pause", SET)
    found = stocked.answers(group, "show", SET)
    assert (found["sending"], found["destinations"][0]["enabled"]) == (False, False)
    stocked.says(group, "resume", SET)
    stocked.says(group, "delete-destination", SET, "all")
    stocked.says(group, "delete", SET, "--yes")
    stocked.says(group, "create", f"{OWNER}/own")
    stocked.says("identity", "notifications", "set", DOMAIN, "--configuration-set", "own")
    assert "default one" in stocked.refuses(group, "delete", f"{OWNER}/own", "--yes")


def test_nothing_to_set_is_misuse(stocked: Desk) -> None:
    stocked.refuses("identity", "notifications", "set", DOMAIN, status=2)
    stocked.refuses("configuration-set", "set-destination", SET, "all", status=2)


def test_a_topic_is_opened_to_another_account_and_closed_again(stocked: Desk) -> None:
    said = stocked.says("topic", "allow", THEIRS, "--account", OWNER)
    assert said == f"settings of account {OWNER} may name topic {THEIRS}\n"
    assert stocked.answers("topic", "show", THEIRS)["open_to"] == [OWNER]
    stocked.says("identity", "notifications", "set", DOMAIN, "--bounce-topic", THEIRS)
    shown = stocked.answers("identity", "notifications", "show", DOMAIN)
    assert shown["bounce_topic"] == THEIRS
    stocked.says("topic", "disallow", THEIRS, "--account", OWNER)
    assert stocked.answers("topic", "show", THEIRS)["open_to"] == []
    refused = stocked.refuses(
        "identity", "notifications", "set", DOMAIN, "--complaint-topic", f"{DELEGATE}/other"
    )
    assert f"account {DELEGATE} has no topic other in region us-east-1 that is open" in refused
