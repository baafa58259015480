"""The guide to several hosts: each line can be typed, and a second host runs."""

import re
import shlex
import shutil
import subprocess
import tomllib
from asyncio import to_thread
from pathlib import Path
from typing import Final

from tests.support.documents import content, noted
from tests.support.hosts import host, on_loopback, share, smtpgate, started
from tests.support.reference import guide

_BLOCK: Final = re.compile(r"^```(sh|toml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What a host makes once for all: none of it is to be made again.
SHARED: Final = ("*.secret", "*.pem", "master.key", "journal.key", "accounts.toml")


def blocks() -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in _BLOCK.finditer(guide("fleet"))]


class Reader:
    """Does what the guide says, with folders of the test."""

    def __init__(self, one: Path, two: Path, shared: Path) -> None:
        self.printed: dict[str, str] = {}
        self._two = two
        self._shared = shared
        self._places = {
            "gate.example.com:/etc/smtpgate": str(one),
            "gate.example.com:/var/lib/smtpgate": str(one / "state"),
            "/etc/smtpgate": str(two),
            "/var/lib/smtpgate": str(two / "state"),
        }

    async def do(self, line: str) -> None:
        for theirs, ours in self._places.items():
            line = line.replace(theirs, ours)
        words = shlex.split(line)
        match words[0]:
            case "smtpgate":
                self.printed[" ".join(words[:3])] = await smtpgate(self._two, *words[1:])
                if words[1] == "init":
                    assert not [path for name in SHARED for path in self._two.rglob(name)]
                    on_loopback(self._two)
            case "scp":
                await to_thread(subprocess.run, ["cp", *words[1:]], check=True)
            case "systemctl" | "chown":
                pass
            case _:
                await to_thread(subprocess.run, words, check=True)

    def configure(self, text: str) -> None:
        sections = tomllib.loads(text)
        assert sections.keys() == {"directory", "journal", "ledger"}
        for name in ("directory", "journal"):
            share(self._two, name, f"sqlite:///{self._shared}/{name}.sqlite")


async def test_a_second_host_is_set_up_as_it_says(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    one, two = host(tmp_path / "one", shared), tmp_path / "two"
    async with started(one) as gate:
        before, seen = await content(gate.store), await noted(gate.store)
        reader = Reader(one, two, shared)
        for language, text in blocks():
            if language == "toml":
                reader.configure(text)
                continue
            for line in text.splitlines():
                await reader.do(line)
        told = reader.printed["smtpgate init --join"]
        assert f"{two}/private/master.key: the key that secrets" in told
        assert f"{two}/state/journal.key: the key of the journal" in told
        assert "SMTP logins" not in told
        (checked,) = (one for words, one in reader.printed.items() if "check-config" in words)
        assert ": fine\n" in checked
        assert "steps" not in checked
        async with started(two) as other:
            assert await content(other.store) == before
        assert (await content(gate.store), await noted(gate.store)) == (before, seen)


async def test_joining_again_lists_nothing_once_all_is_there(tmp_path: Path) -> None:
    one, two = host(tmp_path / "one"), tmp_path / "two"
    async with started(one):
        pass
    init = ("init", "--join", "--hostname", "gate2.example.com", str(two))
    assert "To be copied from a host" in await smtpgate(two, *init)
    for name in ("private/master.key", "state/journal.key"):
        (two / name).parent.mkdir(exist_ok=True)
        (two / name).write_bytes((one / name).read_bytes())
        (two / name).chmod(0o600)
    assert "nothing was missing" in await smtpgate(two, *init)


async def test_the_private_files_that_copied_documents_name_are_listed(tmp_path: Path) -> None:
    one, two = host(tmp_path / "one"), tmp_path / "two"
    shutil.copytree(one, two)
    for path in (two / "private").iterdir():
        path.unlink()
    told = await smtpgate(two, "init", "--join", str(two))
    for name in ("AKIA9999MAILER000001.secret", "ses-example.com.gate1.pem", "master.key"):
        assert str(two / "private" / name) in told
        assert not (two / "private" / name).exists()
    assert (two / "private/tls.crt").exists()
