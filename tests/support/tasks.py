"""The guide to the directory, done line by line as it stands there.

What is not ours is played: the owner publishes records, somebody reads the mail with the code,
systemd does as it is told. Only paths and the database server's place are others.
"""

import re
import shlex
import subprocess
from asyncio import to_thread
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.support.desk import Desk
from tests.support.reference import guide
from tests.support.scripted_dns import ScriptedDns
from tests.support.upstream_server import UpstreamServer

# Whom the guide adds to the accounts of the sample.
NEW_OWNER, NEW_DELEGATE, NEW_DOMAIN = "222222222222", "333333333333", "example.org"

_BLOCK: Final = re.compile(r"^```(sh|toml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_CODE: Final = "7KQ2-M0XZ-94TB"
_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
_CODE_IN_MAIL: Final = re.compile(
    rb"^    ([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\r$", re.MULTILINE
)


def blocks() -> Iterator[tuple[str, str]]:
    """The language and the text of each block of the guide."""
    for block in _BLOCK.finditer(guide("directory")):
        yield block[1], block[2].replace("\\\n", " ")


class Operator:
    """Does what the guide says."""

    def __init__(
        self,
        desk: Desk,
        dns: ScriptedDns,
        upstream: UpstreamServer,
        elsewhere: Mapping[str, str],
    ) -> None:
        self.done: list[str] = []
        self.shown: dict[str, str] = {}
        self._desk = desk
        self._dns = dns
        self._upstream = upstream
        self._elsewhere = {
            "/var/lib/smtpgate": str(desk.database.parent),
            "/var/backups/smtpgate": str(desk.folder / "backups"),
            "/etc/smtpgate/private/master.key": str(desk.folder / "master.key"),
            **elsewhere,
        }
        (desk.folder / "backups").mkdir()

    async def do(self, line: str) -> None:
        """Do one line; it must come off well."""
        filled = await self._filled_in(line)
        words = shlex.split(filled)
        if words[0] == "smtpgate":
            await self._give(line, words[1:])
        elif words[0] != "systemctl":
            # There is no user smtpgate to give files to.
            shell = ["sh", "-c", filled.replace("-o smtpgate ", "")]
            await to_thread(subprocess.run, shell, check=True, cwd=self._desk.folder)
        self.done.append(line)

    async def _give(self, line: str, words: list[str]) -> None:
        into: Path | None = None
        if ">" in words:
            at = words.index(">")
            into, words = self._desk.folder / words[at + 1], words[:at]
        self._publish(words)
        if words[:2] == ["dkim", "delete"]:
            # Seven days later the gate has retired the key.
            self._desk.sql("UPDATE dkim_keys SET stage = 'retired' WHERE stage = 'retiring'")
        given = [self._in_folder(word) for word in words]
        printed = await to_thread(self._desk.says, *given)
        self.shown[line] = printed
        if into is not None:
            into.write_text(printed)

    def _in_folder(self, word: str) -> str:
        """A file that is named without a folder is the desk's."""
        file = self._desk.folder / word
        return str(file) if word.endswith(".json") and file.exists() else word

    def _publish(self, words: list[str]) -> None:
        """Let the DNS have every record that was asked for so far."""
        if words[1:2] not in (["verify"], ["check"], ["activate"]):
            return
        zone = {
            f"_smtpgate.{name}": [token.encode()]
            for name, token in self._desk.rows("SELECT name, token FROM identities")
        }
        query = "SELECT selector, domain, record FROM dkim_keys"
        for selector, domain, record in self._desk.rows(query):
            zone[f"{selector}._domainkey.{domain}"] = [record.encode()]
        self._dns.knows(zone)

    async def _filled_in(self, line: str) -> str:
        """The line with the things that differ from reader to reader."""
        if _CODE in line:
            found = _CODE_IN_MAIL.search(self._upstream.messages[-1])
            assert found is not None
            line = line.replace(_CODE, found[1].decode())
        if _KEY_ID in line:
            (first, *_) = self._desk.rows(
                f"SELECT id FROM access_keys WHERE account_id = '{NEW_DELEGATE}' "
                f"ORDER BY created_at"
            )
            line = line.replace(_KEY_ID, first[0])
        for theirs, ours in self._elsewhere.items():
            line = line.replace(theirs, ours)
        return line

    async def configure(self, text: str) -> None:
        """Write the keys of a section into the configuration."""
        for theirs, ours in self._elsewhere.items():
            text = text.replace(theirs, ours)
        header = text.partition("\n")[0]
        self._desk.configure(header, text.strip())
