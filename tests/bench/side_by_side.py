"""The gate beside a peer, measured by a benchmark folder's own load generator and tables.

    .venv/bin/python tests/bench/side_by_side.py --bench DIR --sizes 4k,64k --seconds 3

DIR holds ``bench.py``, ``loadgen.c`` and ``gen_messages.py``: it starts each peer between an
authenticated load generator and smtp-sink on loopback, and counts the CPU time of the peer's
processes. This script adds the gate as one more peer, with all stages on (AUTH, policies of
user and identity, limits, RSA-2048 DKIM, a log line a message), and runs them one after the
other. Compare only what one run printed. Needs root, and Debian's postfix, opendkim, sasl2-bin,
libsasl2-modules, gcc and openssl.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from smtpgate.core.secret import Secret, smtp_password
from smtpgate.directory.sealing import new_master_key

_ROOT: Final = Path(__file__).resolve().parents[2]
_GATE: Final = "smtpgate"
REGION: Final = "us-east-1"
_ACCOUNT: Final = "888888888888"
_DOMAIN: Final = "perf.example"  # the benchmark's messages are from user1@perf.example
KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

_ACCOUNTS: Final = f"""\
[accounts.{_ACCOUNT}]
name = "Benchmark"
max_24h_send = -1
max_send_rate_per_s = -1

[accounts.{_ACCOUNT}.users.user1]
policies = {{ send = "may-send.json" }}

[[accounts.{_ACCOUNT}.users.user1.access_keys]]
id = "{KEY_ID}"
secret_file = "secret"

[accounts.{_ACCOUNT}.identities."{_DOMAIN}"]
verified = true
policies = {{ own-users = "own-users.json" }}
dkim = [{{ selector = "perf", key_file = "perf.key" }}]
"""
_MAY_SEND: Final = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"},
}
_OWN_USERS: Final = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{_ACCOUNT}:user/user1"},
        "Action": ["ses:SendEmail", "ses:SendRawEmail"],
        "Resource": f"arn:aws:ses:{REGION}:{_ACCOUNT}:identity/{_DOMAIN}",
        "Condition": {"StringLike": {"ses:FromAddress": f"user1@{_DOMAIN}"}},
    },
}


def _load(folder: Path) -> ModuleType:
    sys.dont_write_bytecode = True  # the folder may be read-only, and is not ours
    spec = importlib.util.spec_from_file_location("smtp_bench", folder / "bench.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"no benchmark in {folder}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_gate(folder: Path, key: bytes, *, port: int, sink_port: int) -> Path:
    """Write what the gate needs into that folder; its configuration."""
    directory, config = folder / "directory", folder / "smtpgate.toml"
    _write_directory(directory, key)
    config.write_text(_config(directory, port, sink_port))
    return config


def _write_directory(folder: Path, key: bytes) -> None:
    (folder / "private").mkdir(parents=True)
    (folder / "private/master.key").write_text(new_master_key("bench"))
    (folder / "private/master.key").chmod(0o600)
    (folder / "accounts.toml").write_text(_ACCOUNTS)
    (folder / "may-send.json").write_text(json.dumps(_MAY_SEND))
    (folder / "own-users.json").write_text(json.dumps(_OWN_USERS))
    for name, octets in {"secret": SECRET.encode(), "perf.key": key}.items():
        (folder / name).write_bytes(octets)
        (folder / name).chmod(0o600)


def _config(directory: Path, port: int, sink_port: int) -> str:
    return f"""\
[gate]
hostname = "gw.{_DOMAIN}"
region = "{REGION}"

[listener.submission]
address = "127.0.0.1"
port = {port}
tls = "none"
allow_plaintext_auth = true
max_connections = 512
max_connections_per_client = 512

[upstream.default]
host = "127.0.0.1"
port = {sink_port}
tls = "off"

[directory]
apply = "{directory}"
master_key_file = "{directory}/private/master.key"
recheck = false

[http]
enabled = false
"""


def add_gate(bench: ModuleType) -> None:
    """Make the gate one of the benchmark's peers, with the login that it derives."""

    peer_class: type[Any] = bench.Peer

    class SmtpGate(peer_class):  # type: ignore[misc]  # known at run time only
        """The gate, started as an operator does."""

        user = KEY_ID
        secret = smtp_password(Secret(SECRET), REGION).value

        def start(self) -> None:
            config = write_gate(
                self.dir, bench.KEY.read_bytes(), port=bench.PORT, sink_port=bench.SINK
            )
            self.up([sys.executable, "-m", "smtpgate", "serve", "--config", config], cwd=_ROOT)
            bench.wait_port(bench.PORT)

    generator_command = bench.load

    def load(peer: object, *numbers: float) -> list[str]:
        command: list[str] = generator_command(peer, *numbers)
        if isinstance(peer, SmtpGate):
            command[command.index("-w") + 1] = peer.secret
        return command

    bench.PEERS[_GATE] = SmtpGate
    setattr(bench, "load", load)  # noqa: B010 - mypy knows no such attribute of a module


def main() -> None:
    """Run the gate and its peers one after the other, and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, required=True, metavar="DIR")
    parser.add_argument("--peers", default="postfix-opendkim", help="comma-separated")
    parser.add_argument("--out", type=Path, help="where the runs go, one JSON line each")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="check the signatures at the sink, measure nothing",
    )
    ours, theirs = parser.parse_known_args()
    bench = _load(ours.bench.resolve())
    add_gate(bench)
    out = ours.out or bench.PERF / f"side-by-side-{os.getpid()}.jsonl"
    peers = [_GATE, *filter(None, ours.peers.split(","))]
    if ours.verify:
        sys.argv = ["bench.py", "verify", *peers, *theirs]
        bench.main()
        return
    sys.argv = ["bench.py", "run", *peers, "--out", str(out), *theirs]
    bench.main()
    print(f"\n{out}")
    bench.table(out)


if __name__ == "__main__":
    main()
