"""Documents at starts and reloads, beside commands and beside other hosts of the directory."""

import json
import re
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.keys import secret_context
from smtpgate.directory.sealing import new_master_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.check import check
from smtpgate.gate.errors import OpenError
from smtpgate.gate.gate import Gate
from smtpgate.gate.serve import serve
from tests.support.documents import content, noted, present
from tests.support.hosts import change, config_of, directory_of, host, smtpgate, started
from tests.support.reference import guide
from tests.support.tenants import raw
from tests.support.world import DELEGATE, OWNER

pytestmark = pytest.mark.slow

PLACE: Final = ("identity", OWNER, "us-east-1", "ses-example.com")
KEY: Final = "AKIA9999MAILER000001"
_BLOCK: Final = re.compile(r"```sh\n(.*?)```", re.DOTALL)


async def logged(gate: Gate, folder: Path, event: str) -> list[dict[str, Any]]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


async def policies_of(store: DirectoryStore) -> set[str]:
    return set((await present(store)).policies.get(PLACE, {}))


# -- a grant that was revoked ------------------------------------------------------------------


def revoking() -> list[str]:
    """The lines of the guide that revoke and pause."""
    _, _, text = guide("directory").partition("## Revoke and pause")
    block = _BLOCK.search(text)
    assert block is not None
    return [line for line in block[1].splitlines() if line]


@pytest.mark.slow
async def test_the_guide_s_revoke_is_safe_with_the_shipped_configuration(
    tmp_path: Path,
) -> None:
    folder = host(tmp_path)
    async with started(folder) as gate:
        assert await policies_of(gate.store) == {"marketing"}
        for line in revoking():
            words = shlex.split(line)
            assert words[0] == "smtpgate"
            await smtpgate(folder, *words[1:])
        assert await policies_of(gate.store) == set()
        seen = await noted(gate.store)
        await gate.reload()
        change(folder, 'name = "Delegate sender"', 'name = "Other"', "directory/accounts.toml")
        await gate.reload()
        assert await policies_of(gate.store) == set()
        assert await noted(gate.store) == seen + 2
        output = await logged(gate, folder, "directory drift")
    assert {line["level"] for line in output} == {"warning"}
    assert {(line["object"], line["problem"]) for line in output} == {
        (f"policy marketing of identity {OWNER}/ses-example.com", "deleted in the directory")
    }
    async with started(folder) as gate:
        assert await policies_of(gate.store) == set()
        assert "\nsmtpgate_directory_drift 1.0\n" in gate.metrics.render().decode()
    dry = await smtpgate(folder, "apply", str(folder / "directory"), "--dry-run")
    assert dry.startswith(f"! policy marketing of identity {OWNER}/ses-example.com: deleted")
    assert "    directory: not there" in dry
    assert await policies_after(folder, "apply", str(folder / "directory")) == set()
    forced = ("apply", str(folder / "directory"), "--force")
    assert await policies_after(folder, *forced) == {"marketing"}


async def policies_after(folder: Path, *words: str) -> set[str]:
    await smtpgate(folder, *words)
    async with directory_of(folder) as store:
        return await policies_of(store)


@pytest.mark.slow
async def test_limits_keys_and_pauses_of_commands_outlive_a_restart(tmp_path: Path) -> None:
    folder = host(tmp_path)
    async with started(folder):
        pass
    for line in (
        "quota set 999999999999 --max-24h-send 7",
        "quota set 999999999999/mailer --max-24h-send 3",
        f"key disable {KEY}",
        "account pause 999999999999 --reason complaints",
        f"identity pause {OWNER}/ses-example.com --reason stolen",
    ):
        await smtpgate(folder, *shlex.split(line))
    async with directory_of(folder) as store:
        before, seen = await content(store), await noted(store)
    async with started(folder) as gate:
        await gate.reload()
        assert (await content(gate.store), await noted(gate.store)) == (before, seen)


# -- a second host -----------------------------------------------------------------------------


def take_port(folder: Path, section: str = "listener.submissions") -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    _TAKEN.append(taken)
    before, _, rest = (folder / "smtpgate.toml").read_text().partition(f"\n[{section}]")
    rest = rest.replace("port = 0", f"port = {taken.getsockname()[1]}", 1)
    (folder / "smtpgate.toml").write_text(f"{before}\n[{section}]{rest}")


def take_http_port(folder: Path) -> None:
    take_port(folder, "http")


def spoil_certificate(folder: Path) -> None:
    shutil.copy(folder / "private/tls.key", folder / "private/tls.crt")


def lack_journal_key(folder: Path) -> None:
    (folder / "state/journal.key").unlink()


def another_journal_key(folder: Path) -> None:
    (folder / "state/journal.key").write_text("A" * 43 + "=\n")


def spoil_upstream(folder: Path) -> None:
    (folder / "ca.pem").write_text("junk")
    change(folder, '#ca_file = "upstream-ca.pem"', 'ca_file = "ca.pem"')
    change(folder, 'tls = "off"', 'tls = "required"')


_TAKEN: Final[list[socket.socket]] = []


@pytest.fixture
def fleet(tmp_path: Path) -> tuple[Path, Path]:
    """Two hosts that were set up each for itself, with one directory and journal."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    return host(tmp_path / "one", shared), host(tmp_path / "two", shared)


async def join(one: Path, two: Path) -> None:
    """Copy to the second host what the guide says."""
    shutil.copy(one / "private/master.key", two / "private/master.key")
    (two / "state").mkdir(exist_ok=True)
    shutil.copy(one / "state/journal.key", two / "state/journal.key")


@pytest.mark.parametrize(
    "spoil",
    [
        another_journal_key,
        take_port,
        # Found in the same steps of a start, by the same checks.
        *(
            pytest.param(spoil, marks=pytest.mark.slow)
            for spoil in (lack_journal_key, take_http_port, spoil_certificate, spoil_upstream)
        ),
    ],
)
async def test_a_start_that_fails_has_changed_nothing_of_the_directory(
    fleet: tuple[Path, Path], spoil: Callable[[Path], None]
) -> None:
    one, two = fleet
    change(two, "max_24h_send = 1000", "max_24h_send = 5", "directory/accounts.toml")
    async with started(one) as gate:
        before, seen = await content(gate.store), await noted(gate.store)
        await join(one, two)
        spoil(two)
        with pytest.raises((OpenError, OSError)):
            await serve(config_of(two))
        assert (await content(gate.store), await noted(gate.store)) == (before, seen)
    while _TAKEN:
        _TAKEN.pop().close()


async def test_documents_with_errors_make_no_new_master_key_known(
    fleet: tuple[Path, Path],
) -> None:
    one, two = fleet
    async with started(one) as gate:
        await join(one, two)
        file = two / "private/master.key"
        file.write_text(new_master_key("m2") + file.read_text())
        change(two, 'name = "Delegate sender"', "name = 1", "directory/accounts.toml")
        with pytest.raises(DirectoryError):
            await serve(config_of(two))
        assert not await gate.store.look()
        known = await raw(gate.store, "SELECT id FROM master_keys")
        assert [row.id for row in known] == ["m1"]
        change(two, "name = 1", 'name = "Delegate sender"', "directory/accounts.toml")
        async with started(two):
            known = await raw(gate.store, "SELECT id FROM master_keys ORDER BY id")
        assert [row.id for row in known] == ["m1", "m2"]


async def test_a_missing_journal_key_is_reported_with_where_to_get_it(
    fleet: tuple[Path, Path],
) -> None:
    one, two = fleet
    async with started(one):
        pass
    await join(one, two)
    lack_journal_key(two)
    with pytest.raises(OpenError) as refusal:
        await serve(config_of(two))
    output = str(refusal.value)
    assert f"{two}/state/journal.key: is missing, and only with that key" in output
    assert "copy journal.key from a host that uses this journal" in output


async def test_another_host_s_documents_replace_no_secret_and_no_key_that_signs(
    fleet: tuple[Path, Path],
) -> None:
    one, two = fleet
    async with started(one) as gate:
        before, seen = await content(gate.store), await noted(gate.store)
        await join(one, two)
        output = "\n".join(await check(config_of(two)))
        assert "no steps to be taken by the next start" in output
        assert f"access key {KEY} of {DELEGATE}/mailer: another secret" in output
        async with started(two) as other:
            drift = await logged(other, two, "directory drift")
        assert (await content(gate.store), await noted(gate.store)) == (before, seen)
        secret = (one / f"private/{KEY}.secret").read_bytes().strip()
        sealed = (await present(gate.store)).sealed[KEY]
        assert gate.store.master_keys.open(sealed, secret_context(KEY)) == secret
    assert {line["problem"].partition(" than")[0] for line in drift} == {
        "another secret",
        "another private key",
    }


async def test_check_config_names_the_steps_of_the_next_start(tmp_path: Path) -> None:
    folder = host(tmp_path)
    async with started(folder):
        pass
    change(folder, "max_24h_send = 1000", "max_24h_send = 5", "directory/accounts.toml")
    output = "\n".join(await check(config_of(folder)))
    assert "1 step to be taken by the next start:" in output
    assert "  ~ account 999999999999 (max_24h_send: 1000 -> 5)" in output
