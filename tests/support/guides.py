"""The blocks of the guides, and a reader who runs them in order, as they stand there.

A reader has followed the README up to the first mail: the sample configuration is in
``/etc/smtpgate``, and the gate runs. Paths lead into a folder of the test. ``systemctl`` starts
and stops a gate in this process; the DNS has the records that a guide asks to be published;
``scp`` copies from the other host's folder.

Comments before a block, which no reader sees, say more about it::

    <!-- not run: WHY -->    the block cannot be run here
    <!-- on: gate2 -->       it is for the second host
"""

import json
import os
import re
import shlex
import smtplib
import sqlite3
import ssl
import subprocess
import sys
import tomllib
from asyncio import to_thread
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Final, NamedTuple

from smtpgate.config import load_config
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.gate.gate import Gate
from tests.support.hosts import change, host, on_loopback, smtpgate, started
from tests.support.scripted_dns import ScriptedDns
from tests.support.upstream_server import UpstreamServer

FIRST, SECOND = "gate", "gate2"
MX_HOST: Final = "bounces.example.com"
DATABASE: Final = "postgresql://smtpgate@db.example.com/smtpgate"
REDIS: Final = "rediss://redis.example.com:6379/0"
# Commands of the system that do the same in a test as for a reader.
_ORDINARY: Final = frozenset(
    {"cat", "chmod", "cp", "install", "ln", "mkdir", "mv", "openssl", "rm", "umask"}
)
_BLOCK: Final = re.compile(
    r"^(?:<!-- (not run|on): ([^>]+) -->\n)?```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
_CODE: Final = "7KQ2-M0XZ-94TB"
_CODE_IN_MAIL: Final = re.compile(
    rb"^    ([0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4})\r$", re.MULTILINE
)
_KEY_AND_SECRET: Final = re.compile(r"(AKIA[0-9A-Z]{16}).*?\bsecret\W+(\S{40})", re.DOTALL)
_SAMPLE_KEY: Final = "AKIA9999MAILER000001"
_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
MESSAGE_ID: Final = "010001a2139c5d8b-00000000-1111-2222-3333-444444444444-000000"


class Block(NamedTuple):
    """A block of a page: its language, its text, and the comment before it."""

    language: str
    text: str
    host: str
    not_run: str

    @property
    def lines(self) -> list[str]:
        """Its lines; one that ends with a backslash goes on in the next."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line and not line.startswith("#")]


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for mark, value, language, body in _BLOCK.findall(text):
        yield Block(
            language,
            body,
            host=value if mark == "on" else FIRST,
            not_run=value if mark == "not run" else "",
        )


@dataclass(slots=True)
class World:
    """All that is around the hosts: the DNS, the upstream, and databases for several hosts."""

    home: Path
    dns: ScriptedDns
    upstream: UpstreamServer
    directory_url: str
    journal_url: str
    redis_url: str = ""
    message_id: str = ""


class Reader:
    """Does what a guide says."""

    def __init__(self, world: World) -> None:
        self.printed: dict[str, str] = {}
        self.gates: dict[str, Gate] = {}
        self._world = world
        self._stacks: dict[str, AsyncExitStack] = {}
        self._host = FIRST
        self._exported: dict[str, str] = {}
        host(self.folder(FIRST))
        certificate = self.folder(FIRST) / "private" / "tls.crt"
        copyfile(certificate, self.folder(FIRST) / "client.pem")  # stands for a client's
        self._set_up_network()

    async def __aenter__(self) -> "Reader":
        await self._systemctl("start")
        return self

    async def __aexit__(self, *_: object) -> None:
        for stack in self._stacks.values():
            await stack.aclose()

    def folder(self, name: str) -> Path:
        """The folder that stands for ``/etc/smtpgate`` of a host."""
        return self._world.home / name

    async def send(self, author: str, to: str) -> str:
        """Send a message as the sample's user does; the reply, whose id a guide may name."""
        folder = self.folder(FIRST)
        trusted = ssl.create_default_context(cafile=folder / "private" / "tls.crt")
        trusted.check_hostname = False
        secret = (folder / "private" / f"{_SAMPLE_KEY}.secret").read_text().strip()
        password = smtp_password(Secret(secret), "us-east-1").value
        port = self.gates[FIRST].listeners["submission"].port

        def submit() -> str:
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
                client.starttls(context=trusted)
                client.login(_SAMPLE_KEY, password)
                client.mail(author)
                client.rcpt(to)
                message = f"From: {author}\r\nTo: {to}\r\nSubject: hello\r\n\r\nhello\r\n"
                return client.data(message)[1].decode()

        reply = await to_thread(submit)
        self._world.message_id = re.findall(r"\S+-000000", reply)[0].strip("();")
        return reply

    async def read(self, text: str) -> None:
        """Do everything that stands on a page, in order."""
        for block in blocks(text):
            self._host = block.host
            if block.not_run:
                continue
            if block.language == "toml":
                self._configure(block.text)
            elif block.language == "sh":
                for line in block.lines:
                    await self._run(line)

    async def _run(self, line: str) -> None:
        """Run one line; it must succeed."""
        filled = self._filled_in(line)
        words = shlex.split(filled)
        match words[0]:
            case "smtpgate":
                await self._run_smtpgate(line, words[1:])
            case "systemctl":
                assert words[2:] == ["smtpgate"], line
                await self._systemctl(words[1])
            case "chown":
                pass  # there is no user smtpgate
            case "scp":
                await to_thread(subprocess.run, ["cp", *words[1:]], check=True)
            case "curl":
                self.printed[line] = await self._curl(filled)
            case "export":
                self._export(words[1])
            case "aws":
                self.printed[line] = await self._aws(words[1:])
            case word:
                assert word in _ORDINARY, f"mark what cannot be run: {line}"
                shell = ["sh", "-c", re.sub(r"-[og] smtpgate ", "", filled)]
                await to_thread(subprocess.run, shell, check=True)

    async def _curl(self, line: str) -> str:
        """Run curl with the port that the gate has here; it must succeed."""
        http = self.gates[self._host].http
        assert http is not None
        shell = ["sh", "-c", line.replace(":9587/", f":{http.port}/")]
        done = await to_thread(subprocess.run, shell, check=True, capture_output=True)
        return done.stdout.decode()

    def _export(self, assignment: str) -> None:
        """Put a variable into the environment of clients of AWS, with the values of here."""
        name, _, value = assignment.partition("=")
        made = [text for line, text in self.printed.items() if " key create " in line]
        if name == "AWS_ENDPOINT_URL":
            value = f"https://127.0.0.1:{self.gates[self._host].service.apis['ses'].port}"
        elif name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}:
            (found,) = _KEY_AND_SECRET.findall(made[-1])
            value = found[name == "AWS_SECRET_ACCESS_KEY"]
        self._exported[name] = value

    async def _aws(self, words: Sequence[str]) -> str:
        """Run the AWS CLI; it must succeed. The certificate is not one for 127.0.0.1."""
        environment = {**os.environ, **self._exported, "AWS_CONFIG_FILE": os.devnull}
        program = Path(sys.executable).with_name("aws")
        command = [str(program), "--no-verify-ssl", "--output", "json", *words]

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )

        done = await to_thread(run)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def _run_smtpgate(self, line: str, words: list[str]) -> None:
        into: Path | None = None
        if ">" in words:
            at = words.index(">")
            into, words = Path(words[at + 1]), words[:at]
        if {"verify", "check", "activate"} & set(words[1:3]):
            self._publish()
        if words[:2] == ["dkim", "delete"]:
            # Seven days later the gate has retired the key.
            self._sql("UPDATE dkim_keys SET stage = 'retired' WHERE stage = 'retiring'")
        printed = await smtpgate(self.folder(self._host), *words)
        self.printed[line] = printed
        if into is not None:
            into.write_text(printed)
        if words[0] == "init":
            on_loopback(self.folder(self._host))
            self._set_up_network()

    async def _systemctl(self, operation: str) -> None:
        if operation in {"stop", "restart"}:
            await self._stacks.pop(self._host).aclose()
        if operation in {"start", "restart"}:
            assert self._host not in self._stacks
            stack = self._stacks[self._host] = AsyncExitStack()
            gate = await stack.enter_async_context(started(self.folder(self._host)))
            self.gates[self._host] = gate
        if operation == "reload":
            await self.gates[self._host].reload()

    def _set_up_network(self) -> None:
        """Let a host ask the test's DNS and relay to its upstream."""
        folder, world = self.folder(self._host), self._world
        change(folder, "nameservers = []", f'nameservers = ["127.0.0.1:{world.dns.port}"]')
        change(folder, "\nport = 25\n", f"\nport = {world.upstream.port}\n")

    def _configure(self, text: str) -> None:
        """Set the keys of sections in the configuration, or write a document."""
        path = self.folder(self._host) / "smtpgate.toml"
        if text.startswith("[accounts."):
            (path.parent / "directory" / "team.toml").write_text(text)
            return
        if text.startswith("[api."):
            more = text.replace("0.0.0.0", "127.0.0.1").replace("port = 8443", "port = 0")
            path.write_text(f"{path.read_text()}\n{more}")
            return
        if text.startswith("[upstream."):  # other servers, to which this gate does not relay
            file = path.with_name("upstreams.toml")
            file.write_text(f"{path.read_text()}\n{text}")
            load_config(file)
            return
        if text.startswith(("[issuer.", "[listener.")):  # whose files this host has not
            file = path.with_name("more.toml")
            file.write_text(f"{path.read_text()}\n{text}")
            load_config(file, require_files=False)
            return
        for section, keys in tomllib.loads(text).items():
            if section == "ledger" and not self._world.redis_url:
                continue
            before, header, rest = path.read_text().partition(f"\n[{section}]\n")
            assert header, section
            for key, value in keys.items():
                named = self._stores(section).get(value, value)
                line = re.compile(rf"^#?{key} = .*$", re.MULTILINE)
                rest, found = line.subn(f"{key} = {json.dumps(named)}", rest, count=1)
                assert found, key
            path.write_text(before + header + rest)

    def _stores(self, section: str) -> Mapping[str, str]:
        world = self._world
        url = world.journal_url if section == "journal" else world.directory_url
        return {DATABASE: url, REDIS: world.redis_url}

    def _filled_in(self, line: str) -> str:
        """The line with the values that differ from reader to reader."""
        here, there = self.folder(self._host), self.folder(FIRST)
        values = {
            DATABASE: self._world.directory_url,
            "gate.example.com:/etc/smtpgate": str(there),
            "gate.example.com:/var/lib/smtpgate": str(there / "state"),
            "--state-dir /var/lib/smtpgate": "",
            "/etc/smtpgate": str(here),
            "/var/lib/smtpgate": str(here / "state"),
            "/var/backups/smtpgate": str(self._world.home / "backups"),
        }
        for theirs, ours in values.items():
            line = line.replace(theirs, ours)
        if _CODE in line:
            found = _CODE_IN_MAIL.search(self._world.upstream.messages[-1])
            assert found is not None
            line = line.replace(_CODE, found[1].decode())
        if _KEY_ID in line:
            # That of the guide to the directory, or else that of the README.
            oldest = "SELECT id FROM access_keys ORDER BY account_id <> ?, created_at"
            line = line.replace(_KEY_ID, self._sql(oldest, "333333333333")[0][0])
        if MESSAGE_ID in line:
            line = line.replace(MESSAGE_ID, self._world.message_id)
        return line

    def _publish(self) -> None:
        """Let the DNS have every record that a command asked to be published."""
        zone = {
            f"_smtpgate.{name}": [token.encode()]
            for name, token in self._sql("SELECT name, token FROM identities")
        }
        for selector, domain, record in self._sql(
            "SELECT selector, domain, record FROM dkim_keys"
        ):
            zone[f"{selector}._domainkey.{domain}"] = [record.encode()]
        hosts: dict[str, str] = {}
        for (domain,) in self._sql("SELECT domain FROM mail_from_domains"):
            zone[domain], hosts[domain] = [b"v=spf1 a:smtp.example.net ~all"], MX_HOST
        self._world.dns.knows(zone, hosts)

    def _sql(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        path = self.folder(self._host) / "state" / "directory.sqlite"
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()
