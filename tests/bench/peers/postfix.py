"""Debian's Postfix as a submission server, with OpenDKIM or rspamd as the milter that signs."""

from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.bench.peers.peer import DOMAIN, HOSTNAME, SENDER, Peer, Running, Setup, SigningKey
from tests.support.daemons import need
from tests.support.gate import Login
from tests.support.postfix import postfix_submission
from tests.support.source import ROOT

_PASSWORD: Final = "secret1"
# At its first start rspamd compiles the patterns that it finds links with.
_PATTERNS: Final = ROOT / ".cache/rspamd"
_COMPILATION_S: Final = 120.0
_SIGNED: Final = (
    "(o)from:(o)sender:(o)reply-to:(o)subject:(o)date:(o)message-id:(o)to:(o)cc:"
    "(o)mime-version:(o)content-type:(o)content-transfer-encoding:"
    "(o)list-unsubscribe:(o)list-unsubscribe-post"
)


def _key(setup: Setup, folder: Path) -> tuple[SigningKey, Path]:
    """The key, and a file that has it."""
    if [key.algorithm for key in setup.keys] != ["rsa"]:
        pytest.skip("Postfix's milters are measured with one RSA key only")
    (key,) = setup.keys
    file = folder / f"{key.selector}.pem"
    file.write_bytes(key.pem)
    file.chmod(0o600)
    return key, file


def _start_opendkim(setup: Setup, folder: Path) -> Path:
    program = need("opendkim", "opendkim")
    key, key_file = _key(setup, folder)
    config, socket = folder / "opendkim.conf", folder / "opendkim.sock"
    config.write_text(f"""\
Mode s
Domain {DOMAIN}
Selector {key.selector}
KeyFile {key_file}
Canonicalization relaxed/relaxed
OversignHeaders From
InternalHosts 127.0.0.1
RequireSafeKeys no
Syslog yes
UMask 000
Socket local:{socket}
""")
    setup.lab.start(
        "opendkim",
        [program, "-f", "-x", config],
        folder / "opendkim.log",
        ready=socket.exists,
    )
    return socket


def _start_rspamd(setup: Setup, folder: Path) -> Path:
    """Only the module that signs, in one worker; on TCP, Nagle's algorithm adds 40 ms."""
    program = need("rspamd", "rspamd")
    modules = Path("/usr/share/rspamd/plugins")
    _PATTERNS.mkdir(parents=True, exist_ok=True)
    socket, config = folder / "rspamd.sock", folder / "rspamd.conf"
    key, key_file = _key(setup, folder)
    config.write_text(f"""\
options {{
  filters = "dkim";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 1s; }}
  pidfile = "{folder}/rspamd.pid";
  tempdir = "{folder}";
  hs_cache_dir = "{_PATTERNS}";
  rrd = "";
}}
logging {{ type = "file"; filename = "{folder}/rspamd.log"; level = "notice"; }}
worker "rspamd_proxy" {{
  bind_socket = "{socket} mode=0666";
  milter = yes;
  count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
dkim {{}}
dkim_signing {{
  sign_authenticated = true;
  sign_local = true;
  allow_username_mismatch = true;
  sign_headers = "{_SIGNED}";
  domain {{ {DOMAIN} {{ path = "{key_file}"; selector = "{key.selector}"; }} }}
}}
modules {{ path = "{modules}/dkim_signing.lua"; }}
actions {{ reject = 10000; add_header = 9000; greylist = 8000; }}
metric {{ name = default; }}
""")
    setup.lab.start(
        "rspamd",
        [program, "-f", "-i", "-c", config],
        folder / "out.log",
        ready=socket.exists,
        timeout_s=_COMPILATION_S,
    )
    return socket


_MILTERS: Final = {"opendkim": _start_opendkim, "rspamd": _start_rspamd}


def start_postfix(setup: Setup, *, milter: str) -> Running:
    """Start the milter, and a Postfix whose users send with their own address only."""
    need("postfix", "postfix")
    folder = setup.lab.new_folder(milter)
    socket = _MILTERS[milter](setup, folder)
    authority = setup.authority
    instance = postfix_submission(
        setup.lab,
        name="gw",
        next_port=setup.sink_port,
        login=Login(SENDER, _PASSWORD),
        certificate=authority.certificate(HOSTNAME) if authority else None,
        settings={
            "smtp_tls_security_level": "secure" if authority else "none",
            "smtp_tls_secure_cert_match": HOSTNAME,
            **({"smtp_tls_CAfile": authority.ca_file} if authority else {}),
            "smtpd_milters": f"unix:{socket}",
            "milter_default_action": "tempfail",
            "smtpd_client_connection_count_limit": setup.connections + 12,
            "default_process_limit": max(setup.connections + 12, 100),
        },
    )
    return Running(instance.port, Login(SENDER, _PASSWORD), has_tls=authority is not None)


POSTFIX_OPENDKIM: Final = Peer(
    "postfix-opendkim",
    partial(start_postfix, milter="opendkim"),
    packages=("postfix", "opendkim"),
)
POSTFIX_RSPAMD: Final = Peer(
    "postfix-rspamd", partial(start_postfix, milter="rspamd"), packages=("postfix", "rspamd")
)
