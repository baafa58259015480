"""The findings: one table with the level of each kind, why it matters, and what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

Level = Literal["error", "warning", "note"]


class FindingKind(NamedTuple):
    """A kind of finding: the check that makes it, its level, its sense, and its cure."""

    check: str
    level: Level
    why: str
    cure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """Something that was found: its kind, what it is about, and what is the matter there."""

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


def _kinds(check: str, rows: Mapping[str, tuple[Level, str, str]]) -> Mapping[str, FindingKind]:
    return {kind: FindingKind(check, *row) for kind, row in rows.items()}


KINDS: Final[Mapping[str, FindingKind]] = {
    **_kinds(
        "configuration",
        {
            "config-invalid": (
                "error",
                "the gate does not start with it, and a reload refuses it",
                "correct what is named; `smtpgate check-config' checks it again",
            ),
            "config-unwise": (
                "warning",
                "it is allowed, and rarely wanted",
                "change the key that is named, unless it is meant so",
            ),
            "log-folder-missing": (
                "error",
                "the log cannot be written",
                "make the folder, for the user of the gate, or change log.target",
            ),
        },
    ),
    **_kinds(
        "rights",
        {
            "state-unusable": (
                "error",
                "the gate keeps its databases there",
                "let the user of the gate own the folder, or run the command as that user",
            ),
            "state-of-others": (
                "warning",
                "the gate may not be able to use files of another user",
                "give the file to the owner of the folder by chown",
            ),
            "state-open": (
                "warning",
                "other users of this machine can read the records of mail",
                "chmod 700 the folder",
            ),
            "key-unreadable": (
                "warning",
                "the next start or reload fails, or keeps the certificate that it has",
                "chown the file to the user of the gate, or pass it by LoadCredential=",
            ),
            "key-open": (
                "warning",
                "every user of this machine can read the secret",
                "chmod 600 the file; replace the secret if others may have read it",
            ),
        },
    ),
    **_kinds(
        "clock",
        {
            "clock-differs": (
                "warning",
                "quotas, leases, signatures of the API and expiry of certificates go by time",
                "run a time service, such as systemd-timesyncd or chrony, on both machines",
            ),
            "clock-alone": (
                "note",
                "a wrong clock would not be seen here",
                "compare it with another machine: timedatectl shows whether it is synchronized",
            ),
        },
    ),
    **_kinds(
        "dns",
        {
            "resolver-fails": (
                "error",
                "identities cannot be verified, and upstreams may not be found",
                "check [dns] and /etc/resolv.conf, and that port 53 is reachable",
            ),
            "hostname-unknown": (
                "warning",
                "clients cannot connect by that name, and receivers distrust it in EHLO",
                "publish an A or AAAA record, or change gate.hostname",
            ),
            "reverse-differs": (
                "note",
                "some receivers refuse hosts whose address does not lead back to their name",
                "have the owner of the address publish a PTR record, if mail leaves from it",
            ),
        },
    ),
    **_kinds(
        "ports",
        {
            "gate-down": (
                "note",
                "ports, certificates as clients see them, and logins were not checked",
                "start the gate, and run this again",
            ),
            "port-closed": (
                "error",
                "clients of this port are refused, while others are served",
                "restart the gate; something else may have the port, or a firewall rejects it",
            ),
            "port-silent": (
                "error",
                "clients wait for an answer, and give up",
                "look at the log; another program may have the port",
            ),
            "port-tls-fails": (
                "error",
                "no client can log in with TLS",
                "check cert_file and key_file; the log names the problem of a handshake",
            ),
            "port-without-login": (
                "error",
                "no sender can log in here",
                "check the section of the listener, and that this is the gate's own port",
            ),
            "port-proxied": (
                "note",
                "a client from this machine has to speak the PROXY protocol",
                "look at the port from a client of the proxy",
            ),
            "port-client-certificate": (
                "note",
                "a client has to show a certificate (`client_ca_file`), and doctor has none",
                "look at the port from a client that has one",
            ),
            "port-free": (
                "note",
                "port 0 is another one at each start",
                "set the port, if clients are to know it",
            ),
            "certificate-unusable": (
                "error",
                "the next start fails, and a reload keeps the old certificate",
                "put certificate and key into the files that are named, both of one kind",
            ),
            "certificate-expired": (
                "error",
                "clients refuse the connection",
                "renew the certificate; the gate takes it within a minute",
            ),
            "certificate-ends-soon": (
                "warning",
                "clients will refuse the connection when it has ended",
                "renew the certificate, and check why that did not happen by itself",
            ),
            "certificate-other-name": (
                "error",
                "clients that verify the name refuse the connection",
                "get a certificate for the name, or change the name",
            ),
            "certificate-untrusted": (
                "note",
                "clients need the authority of the certificate, or an intermediate is missing",
                "append intermediates to cert_file, or give clients the certificate to trust",
            ),
            "certificate-old": (
                "warning",
                "the files have another certificate than clients get",
                "run `smtpgate reload', and look at the log for why it is not loaded",
            ),
        },
    ),
    **_kinds(
        "upstreams",
        {
            "upstream-unresolved": (
                "error",
                "no connection can be opened, and mail is deferred",
                "correct upstream.NAME.host, or the resolver of this machine",
            ),
            "upstream-loops": (
                "error",
                "mail would come back to the gate again and again",
                "name the mail server behind the gate",
            ),
            "upstream-unreachable": (
                "error",
                "mail that is routed there is deferred, or goes by another upstream",
                "check host, port and firewall, and the upstream's own log",
            ),
            "upstream-tls-fails": (
                "error",
                "no mail is sent there, because the server cannot be verified",
                "check tls_name and ca_file, and the certificate of the upstream",
            ),
            "upstream-login-refused": (
                "error",
                "no mail is sent there",
                "check username and password_file, or the section oauth",
            ),
            "upstream-certificate-ends-soon": (
                "warning",
                "no mail can be sent there when it has ended",
                "have the upstream's operator renew the certificate",
            ),
            "upstream-takes-less": (
                "warning",
                "larger messages are refused, whatever gate.max_message_octets says",
                "lower gate.max_message_octets, or raise the upstream's limit",
            ),
            "upstream-slow": (
                "warning",
                "each message waits for several of its answers",
                "choose an upstream that is nearer, or look at its load",
            ),
            "test-not-sent": (
                "error",
                "a message of the gate is not accepted, so others may not be",
                "the reply says why; the sender is smtpgate@ with the gate's hostname",
            ),
            "test-sent": (
                "note",
                "the upstream has accepted the test message",
                "look for it in the mailbox, and at its Authentication-Results",
            ),
        },
    ),
    **_kinds(
        "directory",
        {
            "directory-missing": (
                "note",
                "there are no accounts yet",
                "start the gate, or run `smtpgate directory upgrade'",
            ),
            "directory-unavailable": (
                "error",
                "no sender can log in once the cache is too old",
                "check directory.url, the database, and the rights of its file",
            ),
            "directory-schema": (
                "error",
                "the tables are not those of this version",
                "run `smtpgate directory upgrade' with the gates of the older version stopped",
            ),
            "directory-to-upgrade": (
                "note",
                "the next start upgrades the tables, which the older version cannot use then",
                "make a backup before: `smtpgate backup'",
            ),
            "directory-slow": (
                "warning",
                "logins and first messages of a sender wait for it",
                "look at the load of the database and at the way to it",
            ),
            "documents-invalid": (
                "error",
                "the next start fails, and a reload applies nothing",
                "correct the document; `smtpgate apply --dry-run' checks it again",
            ),
            "master-key-unusable": (
                "error",
                "no secret can be read: nobody can log in, nothing is signed",
                "put the master key file back from the backup or from another host",
            ),
        },
    ),
    **_kinds(
        "ledger",
        {
            "ledger-unavailable": (
                "error",
                "limits cannot be counted, and with on_store_failure = refuse mail is deferred",
                "check [ledger], its server or file, and the rights of the file",
            ),
            "ledger-forgets": (
                "note",
                "a restart forgets what was sent today",
                'use ledger.kind = "sqlite" or "redis" where limits matter',
            ),
        },
    ),
    **_kinds(
        "journal",
        {
            "journal-off": (
                "note",
                "messages cannot be explained, and no bounces are reported",
                "set journal.enabled = true",
            ),
            "journal-unavailable": (
                "error",
                "with on_failure = refuse mail is deferred, else it leaves no record",
                "the problem says what to do; keep a copy of the files before",
            ),
            "outbox-dead": (
                "warning",
                "these events or reports were given up, and their receivers have not got them",
                "`smtpgate outbox list --state dead' lists them; `outbox retry' tries again",
            ),
            "outbox-late": (
                "warning",
                "receivers get events and reports late",
                "`smtpgate outbox list --state waiting' shows the last answer of each",
            ),
        },
    ),
    **_kinds(
        "identities",
        {
            "identities-not-all": (
                "note",
                "a large directory would take too long",
                "give --identity to check others",
            ),
            "identity-missing": (
                "warning",
                "its proof is gone from the DNS, and it will no longer be verified",
                "publish the records that `smtpgate identity show' lists",
            ),
            "dkim-absent": (
                "error",
                "receivers cannot verify signatures, and with DMARC refuse the mail",
                "publish the record that `smtpgate dkim show' shows, or activate another key",
            ),
            "dkim-differs": (
                "error",
                "receivers find the signatures invalid",
                "publish the record that `smtpgate dkim show' shows",
            ),
            "dkim-unanswered": (
                "warning",
                "receivers may not find the key either",
                "check the name servers of the domain",
            ),
            "dkim-none": (
                "warning",
                "mail of the identity is not signed, or refused with signing.require",
                "`smtpgate dkim generate', publish the record, `smtpgate dkim activate'",
            ),
            "mail-from-unproved": (
                "warning",
                "the domain is not used, or the mail refused, and bounces go elsewhere",
                "publish the MX record that `smtpgate identity mail-from show' lists",
            ),
            "spf-absent": (
                "warning",
                "receivers cannot tell who may send for the domain",
                "publish a TXT record v=spf1 that names the upstream's outgoing addresses",
            ),
            "spf-invalid": (
                "error",
                "receivers take the record as an error, and many refuse the mail",
                "correct the record as the problem says",
            ),
            "spf-not-authorized": (
                "error",
                "receivers refuse or mark mail from the upstream's address",
                "name the address in the record, or include the upstream's own record",
            ),
            "spf-unanswered": (
                "warning",
                "receivers may defer the mail",
                "check the name servers of the domain",
            ),
            "spf-not-checked": (
                "note",
                "whether the record authorizes the upstream is not known",
                "give the upstream's outgoing addresses by --address",
            ),
            "dmarc-absent": (
                "warning",
                "large mailbox providers refuse bulk mail of domains without one",
                "publish a TXT record at _dmarc, such as v=DMARC1; p=none; rua=mailto:...",
            ),
            "dmarc-invalid": (
                "error",
                "receivers ignore the record",
                "correct the record: one, with v=DMARC1 first and then p=",
            ),
            "dmarc-not-aligned": (
                "error",
                "signatures are of another domain than From, and adkim=s wants the same",
                "activate a key for the domain itself, or publish adkim=r",
            ),
            "dmarc-unanswered": (
                "warning",
                "receivers may defer the mail",
                "check the name servers of the domain",
            ),
        },
    ),
    **_kinds(
        "limits",
        {
            "descriptors-few": (
                "warning",
                "clients are refused before max_connections is reached",
                "raise LimitNOFILE of the unit, or lower max_connections",
            ),
        },
    ),
    **_kinds(
        "quotas",
        {
            "quota-near": (
                "warning",
                "messages of the account are refused when the limit is reached",
                "`smtpgate quota raise', if the use is expected",
            ),
        },
    ),
    **_kinds(
        "disk",
        {
            "disk-full": (
                "error",
                "nothing can be recorded any more, and mail is deferred",
                "free space, or move gate.state_dir",
            ),
            "disk-short": (
                "warning",
                "large messages, or the journal at its largest, can fill the disk",
                "free space, or lower gate.max_spooled_octets and journal.max_octets",
            ),
        },
    ),
    **_kinds(
        "doctor",
        {
            "check-too-slow": (
                "warning",
                "the check was not finished",
                "run it alone with --only, and look at what it asks",
            ),
            "check-failed": (
                "error",
                "the check itself has a defect, or met something unexpected",
                "report it with the text here",
            ),
        },
    ),
}
