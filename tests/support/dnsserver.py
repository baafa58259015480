"""A real DNS server (dnsmasq) on a loopback port, and the verifiers that are pointed at it."""

import subprocess
from collections.abc import Mapping, Sequence

import dkim
import dns.exception
import dns.resolver
import dns.rrset

from tests.support.daemons import LOOPBACK, Lab, eventually, free_port, listens, missing, need

_MAX_STRING = 255  # RFC 1035 §3.3: a character-string holds at most that many octets
_READY = "ready.example.com"

# Mail::DKIM asks through Net::DNS, whose resolver takes a port of its own.
_PERL_VERIFIER = r"""
use strict; use warnings;
use Net::DNS; use Mail::DKIM::DNS; use Mail::DKIM::Verifier;
my $port = shift @ARGV;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(
    nameservers => ['127.0.0.1'], port => $port, recurse => 1, udp_timeout => 5, retry => 1));
my $verifier = Mail::DKIM::Verifier->new();
binmode STDIN;
local $/;
$verifier->PRINT(<STDIN>);
$verifier->CLOSE;
for my $signature ($verifier->signatures) {
    printf "%s %s %s\n", $signature->domain, $signature->selector, $signature->result_detail;
}
"""


def dkim_record(public_key_der_base64: str, key_type: str = "rsa") -> str:
    """The TXT record's text for a DKIM public key (RFC 6376 §3.6.1)."""
    return f"v=DKIM1; k={key_type}; p={public_key_der_base64}"


class DnsServer:
    """A running dnsmasq that knows only the records of the test."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._resolver = dns.resolver.Resolver(configure=False)
        self._resolver.nameservers = [LOOPBACK]
        self._resolver.port = port
        self._resolver.lifetime = 5

    def txt(self, name: str) -> bytes | None:
        """The TXT record of that name, its strings joined (RFC 6376 §3.6.2.2)."""
        try:
            answer = self._resolver.resolve(name, "TXT")
        except dns.exception.DNSException:
            return None
        joined: bytes = b"".join(answer[0].strings)
        return joined

    def dkimpy_verdict(self, message: bytes) -> bool:
        """True if dkimpy finds the (first) signature valid."""

        def ask(name: bytes, timeout: int = 5) -> bytes | None:
            return self.txt(name.decode())

        verdict: bool = dkim.verify(message, dnsfunc=ask)
        return verdict

    def mail_dkim_verdicts(self, message: bytes) -> list[str]:
        """The verdict of Perl's Mail::DKIM on each signature: ``domain selector result``."""
        perl = need("perl", "perl")
        done = subprocess.run(
            [perl, "-e", _PERL_VERIFIER, str(self.port)],
            input=message,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if b"Can't locate" in done.stderr:
            missing("Perl's Mail::DKIM is not installed (Debian package libmail-dkim-perl)")
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode().splitlines()


def dns_server(
    lab: Lab, txt_records: Mapping[str, str], *, settings: Sequence[str] = ()
) -> DnsServer:
    """Start dnsmasq with those TXT records, each cut into strings that DNS can carry.

    ``settings`` are further lines of its configuration.
    """
    program = need("dnsmasq", "dnsmasq-base")
    port = free_port()
    folder = lab.new_folder("dns")
    lines = [
        f"port={port}",
        f"listen-address={LOOPBACK}",
        "bind-interfaces",
        "no-resolv",
        "no-hosts",
        "log-facility=-",
        "pid-file",
        *settings,
    ]
    for name, text in {**txt_records, _READY: "yes"}.items():
        strings = [
            f'"{text[start : start + _MAX_STRING]}"'
            for start in range(0, len(text), _MAX_STRING)
        ]
        lines.append(f"txt-record={name},{','.join(strings)}")
    config = folder / "dnsmasq.conf"
    config.write_text("\n".join(lines) + "\n")
    server = DnsServer(port)
    lab.start(
        "dnsmasq",
        [program, "--keep-in-foreground", f"--conf-file={config}"],
        folder / "log",
        ready=lambda: listens(port) and server.txt(_READY) == b"yes",
    )
    eventually(lambda: all(server.txt(name) for name in txt_records), "the DNS records")
    return server
