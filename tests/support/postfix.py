"""Private Postfix instances: as the gate's client (relayhost = gate), and as its upstream.

Each has its own configuration, queue and log below the lab's folder, listens on a free loopback
port only, and leaves the machine's own Postfix, if there is one, alone.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.authority import Certificate
from tests.support.daemons import (
    LOOPBACK,
    Daemon,
    Lab,
    eventually,
    free_port,
    listens,
    need,
    need_root,
)
from tests.support.gate import Login
from tests.support.recipes import CA_FILE, recipe
from tests.support.relayhost import Relayhost

Settings = Mapping[str, str | Path | int]

# The services of a private instance in master.cf, nothing chrooted: name, type, private,
# unprivileged, chroot, wake-up, process limit, command.
_SERVICES: Final = """\
pickup unix n - n {wake_s} 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n {wake_s} 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
smtp unix - - n - - smtp
mailbox unix - - n - - smtp -o smtp_tls_security_level=none -o smtp_sasl_auth_enable=no
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message in the queue, and why each of its recipients is still there."""

    sender: str
    reasons: tuple[str, ...]


class Postfix:
    """A running private Postfix."""

    def __init__(self, daemon: Daemon, etc: Path, port: int) -> None:
        self.daemon = daemon
        self.port = port
        self._etc = etc

    def log(self) -> str:
        """Its mail log."""
        return self.daemon.log()

    def inject(
        self, message: bytes, sender: str, recipients: Sequence[str], *options: str
    ) -> None:
        """Hand a message over as a local program does, with ``sendmail``."""
        words = ("-C", str(self._etc), "-i", "-f", sender, *options, "--", *recipients)
        self._run("sendmail", *words, given=message)

    def flush(self) -> None:
        """Try everything in the queue now (``postqueue -f``)."""
        self._run("postqueue", "-c", str(self._etc), "-f")

    def listing(self) -> str:
        """The queue as ``mailq`` prints it; empty when nothing waits."""
        listed = self._run("postqueue", "-c", str(self._etc), "-p").decode()
        return "" if listed.startswith("Mail queue is empty") else listed

    def queue(self) -> list[Queued]:
        """The messages in the queue."""
        listed = self._run("postqueue", "-c", str(self._etc), "-j").decode()
        return [
            Queued(
                entry["sender"],
                tuple(to.get("delay_reason", "") for to in entry["recipients"]),
            )
            for entry in map(json.loads, listed.splitlines())
        ]

    def wait_until_deferred(self, reason: str) -> None:
        """Wait until every message in the queue (and there is one) waits for that reason."""

        def all_deferred() -> bool:
            found = [why for queued in self.queue() for why in queued.reasons]
            return bool(found) and all(re.search(reason, why) for why in found)

        eventually(all_deferred, f"mail deferred because of {reason!r}")

    def wait_until_empty(self, timeout_s: float = 60) -> None:
        """Wait until nothing is left to deliver."""
        eventually(lambda: not self.queue(), "the queue to be empty", timeout_s)

    def change(self, **settings: str) -> None:
        """Change settings of ``main.cf``, and reload."""
        words = [f"{name}={value}" for name, value in settings.items()]
        self._run("postconf", "-c", str(self._etc), "-e", *words)
        self._run("postfix", "-c", str(self._etc), "reload")

    def start_again(self, lab: Lab) -> None:
        """Start it with the queue that it had; it must have ended."""
        self.daemon = lab.start(
            f"{self.daemon.name} again",
            [need("postfix", "postfix"), "-c", self._etc, "start-fg"],
            self.daemon.log_file,
            ready=lambda: listens(self.port),
        )
        lab.keep(self)  # to be stopped by its pid, before the shell that started it

    def close(self) -> None:
        """Stop it by its own pid; its queue stays."""
        pid_file = self._etc.parent / "spool/pid/master.pid"
        if self.daemon.is_running and pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
        self.daemon.wait()

    def _run(self, program: str, *arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [need(program, "postfix"), *arguments],
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode(errors='replace')}"
        return done.stdout


# Deferred mail is tried again soon, not in five minutes.
_IMPATIENT: Final[Settings] = {
    "in_flow_delay": 0,
    "queue_run_delay": "1s",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
}


def _start(
    lab: Lab,
    name: str,
    settings: Settings,
    files: Mapping[str, str] | None = None,
    *,
    is_patient: bool = False,
) -> Postfix:
    need_root("a private Postfix (its master)")
    program = need("postfix", "postfix")
    folder = lab.new_folder(name)
    etc, data, spool, port = folder / "etc", folder / "data", folder / "spool", free_port()
    for made in (etc, data, spool):
        made.mkdir()
    for path, text in (files or {}).items():
        (etc / path).parent.mkdir(exist_ok=True)
        (etc / path).write_text(text)
    shutil.chown(data, "postfix")
    log_file = folder / "maillog"
    every: Settings = {
        "compatibility_level": "3.6",
        "config_directory": etc,
        "queue_directory": spool,
        "data_directory": data,
        "maillog_file": log_file,
        "maillog_file_prefixes": folder,
        "myhostname": f"{name}.example.com",
        "mydestination": "",
        "mynetworks": "127.0.0.0/8",
        "inet_interfaces": LOOPBACK,
        "inet_protocols": "ipv4",
        "alias_maps": "",
        "local_recipient_maps": "",
        "smtp_host_lookup": "native",  # no DNS here
        "disable_dns_lookups": "yes",
        "smtpd_peername_lookup": "no",
        "message_size_limit": 40_000_000,
        "mailbox_size_limit": 0,
        **({} if is_patient else _IMPATIENT),
        **settings,
    }
    (etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in every.items()))
    services = _SERVICES.format(wake_s=60 if is_patient else 1)
    (etc / "master.cf").write_text(f"{LOOPBACK}:{port} inet n - n - - smtpd\n{services}")
    daemon = lab.start(
        f"postfix ({name})",
        [program, "-c", etc, "start-fg"],
        log_file,
        ready=lambda: listens(port),
    )
    instance = Postfix(daemon, etc, port)
    lab.keep(instance)
    return instance


def postfix_client(
    lab: Lab,
    relay: Relayhost,
    *,
    settings: Settings | None = None,
    adds_options: bool = False,
) -> Postfix:
    """Start a Postfix that sends everything to the gate, by the guide's recipe.

    With ``adds_options`` also by the lines that a reader may add to it.
    """
    main, password, *optional = recipe("Postfix", relay)
    host = f"[{relay.tls_name}]:{relay.port}"
    gate = f"[{LOOPBACK}]:{relay.port}"  # this Postfix has the machine's /etc/hosts
    secrets = lab.new_folder("postfix-secrets") / "passwords"
    secrets.touch(password.mode)
    secrets.write_text(password.text.replace(host, gate))
    secrets.chmod(password.mode)
    text = "".join(file.text for file in (main, *(optional if adds_options else [])))
    for old, new in (
        (host, gate),
        (CA_FILE, str(relay.ca_file)),
        (password.path, str(secrets)),
    ):
        assert old in text
        text = text.replace(old, new)
    transport = (
        f"inline:{{ {{{relay.mailbox_domain}=mailbox:[{LOOPBACK}]:{relay.mailbox_port}}} }}"
    )
    return _start(
        lab,
        "client",
        {
            **dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE)),
            "transport_maps": transport if relay.mailbox_domain else "",
            "smtp_tls_wrappermode": "yes" if relay.has_implicit_tls else "no",
            "smtp_tls_loglevel": 1,
            **({"delay_warning_time": "1s"} if relay.warns_of_delay else {}),
            **(settings or {}),
        },
    )


def _sasl(
    lab: Lab, realm: str, username: str, password: str
) -> tuple[Settings, dict[str, str]]:
    """The settings and the files of a Postfix whose clients log in with that."""
    saslpasswd2 = need("saslpasswd2", "sasl2-bin")
    database = lab.new_folder("sasl") / "sasldb2"
    subprocess.run(
        [saslpasswd2, "-p", "-c", "-f", database, "-u", realm, username],
        input=password.encode(),
        check=True,
        timeout=30,
    )
    shutil.chown(database, "postfix")
    return {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_local_domain": realm,
        "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        "smtpd_recipient_restrictions": "permit_sasl_authenticated, reject",
        # Debian's Postfix reads the SASL settings below its configuration directory.
    }, {
        "sasl/smtpd.conf": "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
        f"sasldb_path: {database}\nmech_list: PLAIN LOGIN\n"
    }


def postfix_submission(
    lab: Lab,
    *,
    name: str,
    next_port: int,
    login: Login,
    certificate: Certificate | None,
    settings: Settings,
) -> Postfix:
    """Start a Postfix with its own defaults that takes mail of one login, from its address."""
    username, _, realm = login.username.partition("@")
    sasl, files = _sasl(lab, realm, username, login.password)
    tls: Settings = {"smtpd_tls_security_level": "none"}
    if certificate:
        tls = {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": certificate.cert_file,
            "smtpd_tls_key_file": certificate.key_file,
        }
    return _start(
        lab,
        name,
        {
            "relayhost": f"[{LOOPBACK}]:{next_port}",
            "mynetworks": "127.0.0.2/32",
            "smtpd_sender_login_maps": f"inline:{{ {{{login.username}={login.username}}} }}",
            "smtpd_sender_restrictions": "reject_sender_login_mismatch",
            **sasl,
            **tls,
            **settings,
        },
        files,
        is_patient=True,
    )


def postfix_upstream(
    lab: Lab,
    *,
    next_port: int,
    cert_file: Path,
    key_file: Path,
    username: str,
    password: str,
    wrapper_mode: bool = False,
    settings: Settings | None = None,
) -> Postfix:
    """Start a Postfix that relays for nobody without TLS and AUTH, on to a server on a port."""
    sasl, files = _sasl(lab, "upstream.example.com", username, password)
    return _start(
        lab,
        "upstream",
        {
            "relayhost": f"[{LOOPBACK}]:{next_port}",
            "smtp_tls_security_level": "none",
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_auth_only": "yes",
            "smtpd_tls_wrappermode": "yes" if wrapper_mode else "no",
            "smtpd_tls_loglevel": 1,
            "smtpd_tls_cert_file": cert_file,
            "smtpd_tls_key_file": key_file,
            "smtpd_client_connection_count_limit": 500,
            **sasl,
            **(settings or {}),
        },
        files,
    )
