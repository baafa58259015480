"""The findings: one table with the level of each kind, why it matters, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

Level = Literal["error", "warning", "note"]


class FindingKind(NamedTuple):
    """A kind of finding: the check that makes it, its level, why it matters, what to do."""

    check: str
    level: Level
    why: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """Something that was found: its kind, what it is about, and the problem there."""

    kind: str
    subject: str
    problem: str

    @property
    def row(self) -> FindingKind:
        """The row of its kind."""
        return KINDS[self.kind]


def found(kind: str, subject: str, problem: str) -> DoctorFinding:
    """A finding of a kind that is in the table; KeyError otherwise."""
    if kind not in KINDS:
        raise KeyError(kind)
    return DoctorFinding(kind=kind, subject=subject, problem=problem)


# For each check its kinds of findings, behind their levels: why each matters, and what to do.
_ROWS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "configuration": {
        "error config-invalid": (
            "the gate does not start with it, and a reload refuses it",
            "correct what is named; `smtpgate check-config' checks it again",
        ),
        "warning config-unwise": (
            "it is allowed, and rarely wanted",
            "change the key that is named, unless it is meant so",
        ),
        "error log-folder-missing": (
            "the log cannot be written",
            "make the folder, for the user of the gate, or change log.target",
        ),
    },
    "rights": {
        "error state-unusable": (
            "the gate keeps its databases there",
            "let the user of the gate own the folder, or run the command as that user",
        ),
        "warning state-of-others": (
            "the gate may not be able to use files of another user",
            "give the file to the owner of the folder by chown",
        ),
        "warning state-open": (
            "other users of this machine can read the records of mail",
            "chmod 700 the folder",
        ),
        "warning key-unreadable": (
            "the next start or reload fails, or keeps the certificate that it has",
            "chown the file to the user of the gate, or pass it by LoadCredential=",
        ),
        "warning key-open": (
            "every user of this machine can read the secret",
            "chmod 600 the file; replace the secret if others may have read it",
        ),
    },
    "clock": {
        "warning clock-differs": (
            "quotas, leases, signatures of the API and expiry of certificates go by time",
            "run a time service, such as systemd-timesyncd or chrony, on both machines",
        ),
        "note clock-alone": (
            "a wrong clock would not be seen here",
            "compare it with another machine: timedatectl shows whether it is synchronized",
        ),
    },
    "dns": {
        "error resolver-fails": (
            "identities cannot be verified, and upstreams may not be found",
            "check [dns] and /etc/resolv.conf, and that port 53 is reachable",
        ),
        "warning hostname-unknown": (
            "clients cannot connect by that name, and receivers distrust it in EHLO",
            "publish an A or AAAA record, or change gate.hostname",
        ),
        "note reverse-differs": (
            "some receivers refuse hosts whose address does not lead back to their name",
            "have the owner of the address publish a PTR record, if mail leaves from it",
        ),
    },
    "ports": {
        "note gate-down": (
            "ports, certificates as clients see them, and logins were not checked",
            "start the gate, and run this again",
        ),
        "error port-closed": (
            "clients of this port are refused, while others are served",
            "restart the gate; something else may have the port, or a firewall rejects it",
        ),
        "error port-silent": (
            "clients wait for an answer, and give up",
            "look at the log; another program may have the port",
        ),
        "error port-tls-fails": (
            "no client can log in with TLS",
            "check cert_file and key_file; the log names the problem of a handshake",
        ),
        "error port-without-login": (
            "no sender can log in here",
            "check the section of the listener, and that this is the gate's own port",
        ),
        "note port-proxied": (
            "a client from this machine has to speak the PROXY protocol",
            "look at the port from a client of the proxy",
        ),
        "note port-client-certificate": (
            "a client has to show a certificate (`client_ca_file`), and doctor has none",
            "look at the port from a client that has one",
        ),
        "note port-free": (
            "port 0 is another one at each start",
            "set the port, if clients are to know it",
        ),
        "error certificate-unusable": (
            "the next start fails, and a reload keeps the old certificate",
            "put certificate and key into the files that are named, both of one kind",
        ),
        "error certificate-expired": (
            "clients refuse the connection",
            "renew the certificate; the gate takes it within a minute",
        ),
        "warning certificate-ends-soon": (
            "clients will refuse the connection when it has ended",
            "renew the certificate, and check why that did not happen by itself",
        ),
        "error certificate-other-name": (
            "clients that verify the name refuse the connection",
            "get a certificate for the name, or change the name",
        ),
        "note certificate-untrusted": (
            "clients need the authority of the certificate, or an intermediate is missing",
            "append intermediates to cert_file, or give clients the certificate to trust",
        ),
        "warning certificate-old": (
            "the files have another certificate than clients get",
            "run `smtpgate reload', and look at the log for why it is not loaded",
        ),
    },
    "upstreams": {
        "error upstream-unresolved": (
            "no connection can be opened, and mail is deferred",
            "correct upstream.NAME.host, or the resolver of this machine",
        ),
        "error upstream-loops": (
            "mail would come back to the gate again and again",
            "name the mail server behind the gate",
        ),
        "error upstream-unreachable": (
            "mail that is routed there is deferred, or goes by another upstream",
            "check host, port and firewall, and the upstream's own log",
        ),
        "error upstream-tls-fails": (
            "no mail is sent there, because the server cannot be verified",
            "check tls_name and ca_file, and the certificate of the upstream",
        ),
        "error upstream-login-refused": (
            "no mail is sent there",
            "check username and password_file, or the section oauth",
        ),
        "warning upstream-certificate-ends-soon": (
            "no mail can be sent there when it has ended",
            "have the upstream's operator renew the certificate",
        ),
        "warning upstream-takes-less": (
            "larger messages are refused, whatever gate.max_message_octets says",
            "lower gate.max_message_octets, or raise the upstream's limit",
        ),
        "warning upstream-slow": (
            "each message waits for several of its answers",
            "choose an upstream that is nearer, or look at its load",
        ),
        "error test-not-sent": (
            "a message of the gate is not accepted, so others may not be",
            "the reply says why; the sender is smtpgate@ with the gate's hostname",
        ),
        "note test-sent": (
            "the upstream has accepted the test message",
            "look for it in the mailbox, and at its Authentication-Results",
        ),
    },
    "directory": {
        "note directory-missing": (
            "there are no accounts yet",
            "start the gate, or run `smtpgate directory upgrade'",
        ),
        "error directory-unavailable": (
            "no sender can log in once the cache is too old",
            "check directory.url, the database, and the rights of its file",
        ),
        "error directory-schema": (
            "the tables are not those of this version",
            "run `smtpgate directory upgrade' with the gates of the older version stopped",
        ),
        "note directory-to-upgrade": (
            "the next start upgrades the tables, which the older version cannot use then",
            "make a backup before: `smtpgate backup'",
        ),
        "warning directory-slow": (
            "logins and first messages of a sender wait for it",
            "look at the load of the database and at the way to it",
        ),
        "error documents-invalid": (
            "the next start fails, and a reload applies nothing",
            "correct the document; `smtpgate apply --dry-run' checks it again",
        ),
        "error master-key-unusable": (
            "no secret can be read: nobody can log in, nothing is signed",
            "put the master key file back from the backup or from another host",
        ),
    },
    "ledger": {
        "error ledger-unavailable": (
            "limits cannot be counted, and with on_store_failure = refuse mail is deferred",
            "check [ledger], its server or file, and the rights of the file",
        ),
        "note ledger-forgets": (
            "a restart forgets what was sent today",
            'use ledger.kind = "sqlite" or "redis" where limits matter',
        ),
    },
    "journal": {
        "note journal-off": (
            "messages cannot be explained, and no bounces are reported",
            "set journal.enabled = true",
        ),
        "error journal-unavailable": (
            "with on_failure = refuse mail is deferred, else it leaves no record",
            "the problem says what to do; keep a copy of the files before",
        ),
        "warning outbox-dead": (
            "these events or reports were given up, and their receivers have not got them",
            "`smtpgate outbox list --state dead' lists them; `outbox retry' tries again",
        ),
        "warning outbox-late": (
            "receivers get events and reports late",
            "`smtpgate outbox list --state waiting' shows the last answer of each",
        ),
    },
    "identities": {
        "note identities-not-all": (
            "a large directory would take too long",
            "give --identity to check others",
        ),
        "warning identity-missing": (
            "its proof is gone from the DNS, and it will no longer be verified",
            "publish the records that `smtpgate identity show' lists",
        ),
        "error dkim-absent": (
            "receivers cannot verify signatures, and with DMARC refuse the mail",
            "publish the record that `smtpgate dkim show' shows, or activate another key",
        ),
        "error dkim-differs": (
            "receivers find the signatures invalid",
            "publish the record that `smtpgate dkim show' shows",
        ),
        "warning dkim-unanswered": (
            "receivers may not find the key either",
            "check the name servers of the domain",
        ),
        "warning dkim-none": (
            "mail of the identity is not signed, or refused with signing.require",
            "`smtpgate dkim generate', publish the record, `smtpgate dkim activate'",
        ),
        "warning mail-from-unproved": (
            "the domain is not used, or the mail refused, and bounces go elsewhere",
            "publish the MX record that `smtpgate identity mail-from show' lists",
        ),
        "warning spf-absent": (
            "receivers cannot tell who may send for the domain",
            "publish a TXT record v=spf1 that names the upstream's outgoing addresses",
        ),
        "error spf-invalid": (
            "receivers take the record as an error, and many refuse the mail",
            "correct the record as the problem says",
        ),
        "error spf-not-authorized": (
            "receivers refuse or mark mail from the upstream's address",
            "name the address in the record, or include the upstream's own record",
        ),
        "warning spf-unanswered": (
            "receivers may defer the mail",
            "check the name servers of the domain",
        ),
        "note spf-not-checked": (
            "whether the record authorizes the upstream is not known",
            "give the upstream's outgoing addresses by --address",
        ),
        "warning dmarc-absent": (
            "large mailbox providers refuse bulk mail of domains without one",
            "publish a TXT record at _dmarc, such as v=DMARC1; p=none; rua=mailto:...",
        ),
        "error dmarc-invalid": (
            "receivers ignore the record",
            "correct the record: one, with v=DMARC1 first and then p=",
        ),
        "error dmarc-not-aligned": (
            "signatures are of another domain than From, and adkim=s wants the same",
            "activate a key for the domain itself, or publish adkim=r",
        ),
        "warning dmarc-unanswered": (
            "receivers may defer the mail",
            "check the name servers of the domain",
        ),
    },
    "limits": {
        "warning descriptors-few": (
            "clients are refused before max_connections is reached",
            "raise LimitNOFILE of the unit, or lower max_connections",
        ),
    },
    "quotas": {
        "warning quota-near": (
            "messages of the account are refused when the limit is reached",
            "`smtpgate quota raise', if the use is expected",
        ),
    },
    "disk": {
        "error disk-full": (
            "nothing can be recorded any more, and mail is deferred",
            "free space, or move gate.state_dir",
        ),
        "warning disk-short": (
            "large messages, or the journal at its largest, can fill the disk",
            "free space, or lower gate.max_spooled_octets and journal.max_octets",
        ),
    },
    "doctor": {
        "warning check-too-slow": (
            "the check was not finished",
            "run it alone with --only, and look at what it asks",
        ),
        "error check-failed": (
            "the check itself has a defect, or met something unexpected",
            "report it with the text here",
        ),
    },
}


_LEVELS: Final[Mapping[str, Level]] = {one: one for one in get_args(Level)}


def _kinds() -> Iterator[tuple[str, FindingKind]]:
    for check, rows in _ROWS.items():
        for text, (why, cure) in rows.items():
            level, _, kind = text.partition(" ")
            yield kind, FindingKind(check, _LEVELS[level], why, cure)


KINDS: Final[Mapping[str, FindingKind]] = dict(_kinds())
