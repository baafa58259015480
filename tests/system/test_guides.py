"""Each guide: every command on it can be run, in order, and does what the guide says."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.cli.help import GUIDES, REFERENCES
from tests.support.documents import content
from tests.support.guides import FIRST, SECOND, Reader, World, blocks
from tests.support.hosts import smtpgate
from tests.support.reference import guide
from tests.support.scripted_dns import open_dns
from tests.support.upstream_server import open_upstream
from tests.support.world import DELEGATE, OWNER


@pytest.fixture
async def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    """A reader who has followed the README."""
    here = tmp_path / "here"
    for folder in (here, tmp_path / "backups"):
        folder.mkdir()
    monkeypatch.chdir(here)
    async with open_dns() as dns, open_upstream() as upstream:
        stores = [f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("directory", "journal")]
        async with Reader(World(tmp_path, dns, upstream, *stores)) as one:
            yield one


async def shown(reader: Reader, *words: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(await smtpgate(reader.folder(FIRST), *words, "--json"))


async def the_directory_is_as_its_guide_says(reader: Reader) -> None:
    for account_id in ("222222222222", "333333333333", OWNER, DELEGATE):
        assert (await shown(reader, "account", "show", account_id))["status"] == "active"
    revoked = await shown(reader, "identity", "show", "888888888888/ses-example.com")
    assert (revoked["status"], revoked["policies"]) == ("success", [])
    domain = await shown(reader, "identity", "show", "222222222222/example.org")
    assert (domain["status"], domain["method"]) == ("success", "txt")
    assert len(domain["policies"]) == 1
    assert [key["stage"] for key in domain["dkim_keys"]] == ["active"]
    address = await shown(reader, "identity", "show", "222222222222/ceo@example.org")
    assert (address["status"], address["method"]) == ("success", "mail")
    (key,) = await shown(reader, "key", "list", "--owner", "333333333333/mailer")
    assert key["status"] == "active"


async def the_new_dkim_key_signs_alone(reader: Reader) -> None:
    domain = await shown(reader, "identity", "show", "888888888888/ses-example.com")
    assert [(key["selector"], key["stage"]) for key in domain["dkim_keys"]] == [
        ("mail2027", "active")
    ]


async def the_master_key_is_a_new_one(reader: Reader) -> None:
    status = await shown(reader, "directory", "status")
    assert (status["current_master_key"], status["master_keys"]) == ("m2", ["m2", "m1"])


async def both_hosts_have_one_directory(reader: Reader) -> None:
    gates = reader.gates
    assert await content(gates[FIRST].store) == await content(gates[SECOND].store)
    (init,) = (text for line, text in reader.printed.items() if " init " in line)
    for name in ("private/master.key: the key that", "state/journal.key: the key of"):
        assert f"{reader.folder(SECOND)}/{name}" in init
    assert "SMTP logins" not in init
    (checked,) = (text for line, text in reader.printed.items() if " check-config " in line)
    assert ": fine\n" in checked
    assert "steps" not in checked


async def the_document_is_applied(reader: Reader) -> None:
    assert "+ account 444444444444 (Team)" in next(iter(reader.printed.values()))
    assert (await shown(reader, "account", "show", "444444444444"))["name"] == "Team"


async def the_refusal_is_explained(reader: Reader) -> None:
    explained, found = (
        next(text for line, text in reader.printed.items() if word in line)
        for word in (" explain ", " search ")
    )
    sample = next(block for block in blocks(guide("journal")) if not block.language)
    headings = {line for line in sample.lines if line[0].isupper()}
    assert headings <= set(explained.splitlines())
    assert "refused (implicit-deny)" in explained
    assert "statement `AuthorizeMarketer' of policy `marketing' wants" in explained
    assert "implicit-deny" in found


async def the_posted_bounce_is_accepted(reader: Reader) -> None:
    (answer,) = (text for line, text in reader.printed.items() if line.startswith("curl "))
    said = json.loads(answer)
    assert (said["accepted"], said["unknown"], said["unread"]) == (1, 0, 0)


async def the_calls_were_answered(reader: Reader) -> None:
    (account, sent, *_) = (t for line, t in reader.printed.items() if line.startswith("aws "))
    assert json.loads(account)["Account"] == OWNER
    assert json.loads(sent)["MessageId"].endswith("-000000")


async def the_lists_are_as_their_guide_says(reader: Reader) -> None:
    assert await shown(reader, "suppression", "settings", DELEGATE) == {
        "account": DELEGATE,
        "reasons": ["BOUNCE", "COMPLAINT"],
        "addresses": {"BOUNCE": 0, "COMPLAINT": 0},
        "configuration_sets": {},
        "for_delegates": [],
    }


AFTERWARDS: Final[Mapping[str, Callable[[Reader], Awaitable[None]]]] = {
    "api": the_calls_were_answered,
    "backup": the_master_key_is_a_new_one,
    "directory": the_directory_is_as_its_guide_says,
    "dkim": the_new_dkim_key_signs_alone,
    "documents": the_document_is_applied,
    "feedback": the_posted_bounce_is_accepted,
    "fleet": both_hosts_have_one_directory,
    "journal": the_refusal_is_explained,
    "suppression": the_lists_are_as_their_guide_says,
}


def has_commands(topic: str) -> bool:
    return any(block.language == "sh" for block in blocks(guide(topic)))


@pytest.mark.slow
@pytest.mark.parametrize("topic", [one for one in (*GUIDES, *REFERENCES) if has_commands(one)])
async def test_every_command_of_a_guide_can_be_run_in_order(reader: Reader, topic: str) -> None:
    if topic == "journal":
        await reader.send(to="jane@example.net", author="ceo@ses-example.com")
    if topic == "feedback":
        await reader.send(to="jane@example.net", author="marketing@ses-example.com")
    await reader.read(guide(topic))
    for line, printed in reader.printed.items():
        assert " simulate " not in line or printed.startswith("allow\n")
    if topic in AFTERWARDS:
        await AFTERWARDS[topic](reader)
