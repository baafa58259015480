"""Every command that lists: for people at any width, for pipes, and as JSON for programs."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from rich.cells import cell_len
from rich.console import Console

from smtpgate.cli import tables
from smtpgate.clock import SystemClock
from tests.support.desk import Desk
from tests.support.journal import journal_in, open_journal, submission
from tests.support.outbox import RETURN_PATH, queue_of, task
from tests.support.reference import commands
from tests.support.world import DELEGATE, DOMAIN, IDENTITY, MAILER, OWNER, grant

# Commands that show what is there. Each is in the table below, and has --json.
SHOWING: Final = {
    "check",
    "check-access",
    "history",
    "impact",
    "list",
    "search",
    "show",
    "usage",
}
TOPIC, SET = f"{OWNER}/bounces", f"{OWNER}/spring"
LISTINGS: Final = {
    "account list": (),
    "account show": (DELEGATE,),
    "user list": (),
    "user show": (MAILER,),
    "user policy list": (MAILER,),
    "user policy show": (MAILER, "may-send"),
    "user policy history": (MAILER, "may-send"),
    "key list": (),
    "key show": ("{key}",),
    "key watch list": (),
    "key watch show": ("{key}",),
    "identity list": (),
    "identity show": (DOMAIN,),
    "identity policy list": (DOMAIN,),
    "identity policy show": (DOMAIN, "marketing"),
    "identity policy history": (DOMAIN, "marketing"),
    "identity mail-from show": (DOMAIN,),
    "identity mail-from check": (DOMAIN,),
    "dkim list": (),
    "dkim show": (DOMAIN, "{selector}"),
    "dkim check": (DOMAIN,),
    "quota show": (DELEGATE,),
    "topic list": (),
    "topic show": (TOPIC,),
    "subscription list": (),
    "subscription show": ("{subscription}",),
    "identity notifications list": (OWNER,),
    "identity notifications show": (DOMAIN,),
    "configuration-set list": (),
    "configuration-set show": (SET,),
    "reputation list": (),
    "reputation show": (IDENTITY,),
    "suppression list": (OWNER,),
    "suppression show": (OWNER, "jane@example.org"),
    "audit list": (),
    "audit show": ("1",),
    "policy check-access": ("--from", "marketing@ses-example.com"),
    "journal search": (),
    "outbox list": (),
    "outbox show": ("{task}",),
    "usage": (),
    "impact": ("--policy", "{proposal}", "--identity", IDENTITY),
}
# Tried where a gate runs.
OF_A_RUNNING_GATE: Final = frozenset({"bans list"})
# An id, an ARN or an address, each of which the next command needs whole.
WORD: Final = re.compile(
    r"arn:[\w:/.@+-]+|[0-9a-f]{16}(?:-[0-9a-f]+)+|AKIA[0-9A-Z]{16}|[\w.+-]+@[\w.-]+"
)


@pytest.fixture(scope="module")
def furnished(
    two_accounts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder with a directory and a journal that have one of each, and some names."""
    desk = Desk(tmp_path_factory.mktemp("listings"), two_accounts)
    desk.take_bounces()
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("identity", "policy", "put", DOMAIN, "marketing", "-", stdin=grant())
    desk.says("identity", "mail-from", "set", DOMAIN, "bounce.ses-example.com")
    desk.says("user", "create", MAILER)
    desk.says("quota", "set", IDENTITY, "--delegate", DELEGATE, "--max-24h-send", "5")
    desk.says("topic", "create", TOPIC)
    desk.says("identity", "notifications", "set", DOMAIN, "--bounce-topic", "bounces")
    desk.says("configuration-set", "create", SET)
    desk.says("reputation", "pause", DELEGATE, "--identity", IDENTITY, "--reason", "it bounces")
    desk.says("suppression", "add", OWNER, "jane@example.org")
    subscribe = ("subscription", "create", TOPIC, "https://hooks.example.com/", "--trust")
    names = {
        "subscription": desk.answers(*subscribe, "--form", "raw")["arn"],
        "key": desk.answers("key", "create", MAILER)["id"],
        "selector": desk.answers("dkim", "generate", DOMAIN)["selector"],
    }

    bounced = task(submission(SystemClock()), RETURN_PATH)
    names["task"] = bounced.id

    async def write() -> None:
        state = desk.database.parent
        async with open_journal(journal_in(state), state, clock=SystemClock()) as journal:
            for end in (("accepted", "accepted"), ("refused", "implicit-deny")):
                await journal.finish(submission(SystemClock(), *end, recipients=2))
            await queue_of(journal).add([bounced])

    asyncio.run(write())
    return desk.database.parent, names


@pytest.fixture
def desk(furnished: tuple[Path, dict[str, str]], tmp_path: Path) -> Desk:
    """A desk with a copy of both."""
    desk = Desk(tmp_path, None)
    desk.take_bounces()
    shutil.copytree(furnished[0], desk.database.parent)
    return desk


def filled(desk: Desk, command: str, names: dict[str, str]) -> list[str]:
    """The command with its arguments."""
    proposal = desk.file("marketing.json", grant(Principal={"AWS": "123456789012"}))
    arguments = [one.format(**names, proposal=proposal) for one in LISTINGS[command]]
    return [*command.split(), *arguments]


def words_in(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """The ids, ARNs and addresses in a value, but for texts of policies and stories."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key not in ("document", "text"):
                yield from words_in(one)
    elif isinstance(value, list):
        for one in value:
            yield from words_in(one)
    elif isinstance(value, str) and WORD.fullmatch(value):
        yield value


def test_every_command_that_shows_something_is_here_and_has_json() -> None:
    showing = {
        words.removeprefix("smtpgate "): command
        for words, command in commands().items()
        if words.split()[-1] in SHOWING
    }
    assert showing.keys() - OF_A_RUNNING_GATE == LISTINGS.keys()
    for command in showing.values():
        assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.slow
@pytest.mark.parametrize("command", LISTINGS)
def test_no_listing_cuts_an_id_an_arn_or_an_address(
    desk: Desk,
    furnished: tuple[Path, dict[str, str]],
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = filled(desk, command, furnished[1])
    known = set(words_in(json.loads(printed(desk, *words, "--json"))))
    # People see some of what programs see, and in a pipe all that they see anywhere.
    shown = known & set(WORD.findall(printed(desk, *words)))
    for width in (80, 120):
        console = Console(highlight=False, width=width)
        monkeypatch.setattr(tables, "console", partial(identity, console))
        narrow = printed(desk, *words)
        assert shown <= set(re.split(r"[\s,()]+|:(?=\s)", narrow)), narrow
        assert "…" not in narrow
        for table in re.findall(r"^┏.*?^└[^\n]*$", narrow, re.DOTALL | re.MULTILINE):
            widths = {cell_len(line) for line in table.splitlines()}
            assert len(widths) == 1
            assert max(widths) <= width


def printed(desk: Desk, *words: str) -> str:
    """The output of a command; `dkim check' fails here, since there are no DNS records."""
    result = desk.give(*words)
    assert result.exit_code == 0 or "check" in words, result.output
    return result.stdout


def identity(console: Console, _width: int | None = None) -> Console:
    """The console, whatever width is wanted."""
    return console
