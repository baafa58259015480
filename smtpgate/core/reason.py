"""Reasons for the refusal of a login or a submission, one row a reason.

A reason code is part of replies, log lines, metrics, journal records and the reference in the
guides; everything that depends on the reason is in its row.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Reason:
    """The meaning of a reason code and its consequences.

    ``meaning`` is for a refused submission, ``at_login`` for a refused login; one may be empty.
    ``advice`` names the change that helps, and the person who can make it: the sender, the
    owner of the identity, or the operator of this gate. ``reply`` and ``last_word`` are names
    in the catalogue of replies: the refusal, empty if the upstream's own reply is passed on,
    and the 421 that ends a session whose access key or account is refused from now on.

    ``is_inner``: the cause is in the gate or behind it. The detail has paths, host names and
    drivers' texts: it is for the log and the journal, never for a reply.
    ``is_over_limit``: a sending limit was reached.
    ``is_uncounted``: nothing was counted against limits.
    ``is_upstreams``: the upstream refused, or lacks an extension; the gate found no fault.
    ``is_lasting``: it lasts until the identity's owner changes something, so another try is
    worth no more than after a permanent refusal.
    ``is_sender_controlled``: a sender can cause this deferral as often as it likes.
    """

    meaning: str
    advice: str
    _: KW_ONLY
    at_login: str = ""
    reply: str = ""
    last_word: str = ""
    is_inner: bool = False
    is_over_limit: bool = False
    is_uncounted: bool = False
    is_upstreams: bool = False
    is_lasting: bool = False
    is_sender_controlled: bool = False


ALL_REASONS: Final[Mapping[str, Reason]] = {
    "malformed-message": Reason(
        "the header block cannot be read, or a field in it",
        "The sender's software has to write a header block that can be read in one way "
        "only: `Name: value' lines that end with CRLF, then an empty line.",
        reply="transaction-failed",
    ),
    "bad-line-ends": Reason(
        "the message contains a bare CR, a bare LF or a NUL",
        "The sender's software has to end every line with CRLF. Where it cannot, the "
        'operator may set message.bare_lf = "normalize", which repairs bare LF, not bare '
        "CR or NUL.",
        reply="transaction-failed",
    ),
    "long-line": Reason(
        "a line of the message is longer than 998 octets",
        "The sender's software has to fold header fields, and to write a body with long "
        "lines as quoted-printable or base64: most servers break such a line, and the "
        "signature with it. Where it cannot, the operator may set message.long_lines = "
        '"pass".',
        reply="transaction-failed",
    ),
    "mail-loop": Reason(
        "the message has more Received fields than a message may have",
        "The message goes in a circle: a server behind this gate sends mail back to a "
        "client of it. The operator has to find the rule that does so, by the Received "
        "fields. For a way that really is so long there is message.max_received.",
        reply="too-many-hops",
    ),
    "duplicate-field": Reason(
        "a field that may occur only once occurs more often",
        "The sender's software has to write that field once: mail programs differ in "
        "which of two fields they show.",
        reply="transaction-failed",
    ),
    "bad-author": Reason(
        "From (or Sender) is missing or ambiguous",
        "The sender has to write one From field with complete addresses, and at most one "
        "Sender with one. Names with special characters must be in quotes, and a name must "
        "not contain an angle bracket, or an address other than its own.",
        reply="transaction-failed",
    ),
    "too-many-authors": Reason(
        "From, Sender and Resent fields have more mailboxes or words than are read",
        "The sender has to name fewer mailboxes, of fewer domains, in From, Sender and the "
        "Resent fields: at most 100 of each, in 1,000 words and marks a field.",
        reply="transaction-failed",
    ),
    "unqualified-address": Reason(
        "an address in To, Cc, Reply-To or a Resent field has no domain",
        "The sender has to write whole addresses: a mail server behind the gate may "
        "complete a local part with a domain of its own, and break the signature. A "
        "display name that contains a comma must be in quotes, or it is read as two "
        "addresses.",
        reply="transaction-failed",
    ),
    "invalid-arn": Reason(
        "an X-SES-*-ARN field does not contain an identity ARN",
        "The sender has to write arn:aws:ses:REGION:ACCOUNT:identity/NAME into the X-SES "
        "field, or leave it out.",
        reply="transaction-failed",
    ),
    "invalid-tag": Reason(
        "X-SES-MESSAGE-TAGS contains a tag that cannot be read",
        "The sender has to write tags as name=value, name2=value2: names of letters, "
        "digits, _ and -, values of these, . and @. Or it leaves the field out.",
        reply="transaction-failed",
    ),
    "configuration-set-paused": Reason(
        "the configuration set that the message names is paused",
        "The sender has to name another configuration set, or none, or have it resumed: "
        "`smtpgate configuration-set resume'.",
        reply="configuration-set-paused",
    ),
    "wrong-region": Reason(
        "the region of the ARN is not this gate's",
        "The sender has to name the identity's ARN with the region of this gate (gate.region).",
        reply="not-verified",
    ),
    "not-aligned": Reason(
        "the identity that was named for the address does not cover it",
        "The sender has to use an address that the named identity covers, or name the "
        "identity that covers the address. A domain covers its subdomains, an address its "
        "+labels.",
        reply="not-aligned",
    ),
    "not-verified": Reason(
        "no verified identity covers the address",
        "The sender has to verify an identity that covers the address, or name by ARN an "
        "identity of another account whose policies allow the sender.",
        reply="not-verified",
    ),
    "explicit-deny": Reason(
        "a Deny statement applies",
        "The Deny overrides every Allow. Its author has to remove or narrow it, or the "
        "sender has to send a message to which it does not apply.",
        reply="access-denied",
    ),
    "implicit-deny": Reason(
        "no Allow statement of one side (user or identity policies) applies",
        "A message that no statement allows is refused. To write a policy, run `smtpgate "
        "policy generate'; to try it, `smtpgate simulate'.",
        reply="access-denied",
    ),
    "access-key-inactive": Reason(
        "the access key was revoked after the login",
        "The sender has to use an active access key, or the account's administrator has "
        "to activate this one again.",
        at_login="the password is right, and the access key is not active",
        reply="access-key-inactive",
        last_word="session-key-inactive",
    ),
    "access-key-expired": Reason(
        "the access key expired after the login",
        "The sender has to use a newer access key, or the account's administrator has to "
        "extend the validity of this one.",
        at_login="the password is right, and the access key has expired",
        reply="access-key-expired",
        last_word="session-key-expired",
    ),
    "network-not-allowed": Reason(
        "the access key may not be used from the client's address any more",
        "The sender has to send from a network of its access key, or the account's "
        "administrator has to add this network. Behind a proxy, the operator has to check "
        "listener.NAME.proxy_from.",
        at_login="the password is right, and the client's address is in no network of the key",
        reply="network-not-allowed",
        last_word="session-network-not-allowed",
    ),
    "certificate-not-allowed": Reason(
        "the access key may not be used any more without one of its certificates",
        "The sender has to show the certificate of its access key in the TLS handshake, or "
        "the account's administrator has to add its pin (`smtpgate key set "
        "--certificate'). The operator has to look whether the listener asks for "
        "certificates: listener.NAME.client_ca_file.",
        at_login="the password is right, and the client showed no certificate of the key's",
        reply="certificate-not-allowed",
        last_word="session-certificate-not-allowed",
    ),
    "access-key-suspended": Reason(
        "the access key is suspended, because its use differs from before",
        "The account's administrator has to look at the use of the key (`smtpgate key "
        "watch show'). If it is the account's own: `smtpgate key confirm'. If the key has "
        "leaked: a new key, and `smtpgate key delete'. See `smtpgate help leaked-keys'.",
        at_login="the password is right, and the key is suspended: its use differs from before",
        reply="access-key-suspended",
        last_word="session-key-suspended",
    ),
    "account-paused": Reason(
        "the account is paused",
        "The operator has to resume the account.",
        reply="account-paused",
        last_word="session-account-paused",
    ),
    "account-shutdown": Reason(
        "the account was paused for its bounce or complaint rate",
        "The sender has to stop sending to addresses that bounce, and to recipients that "
        "did not ask for its mail; `smtpgate reputation show' has its rates. Then the "
        "operator has to resume the account: `smtpgate reputation resume'.",
        reply="account-shutdown",
        last_word="session-account-paused",
    ),
    "account-sending-off": Reason(
        "the account turned its sending off",
        "The account's administrator has to turn it on by the API: "
        "`aws ses update-account-sending-enabled --enabled'. What turned it off may be an "
        "alarm of the account's own.",
        reply="account-paused",
        last_word="session-account-paused",
    ),
    "delegate-paused": Reason(
        "the account is paused on that identity, by its owner or for its rates",
        "The identity's owner, or the operator, has to resume the account on the identity: "
        "`smtpgate reputation resume ACCOUNT --identity ARN'. Its other mail goes on.",
        reply="delegate-paused",
    ),
    "identity-paused": Reason(
        "the identity is paused",
        "The identity's owner, or the operator, has to resume the identity.",
        reply="identity-paused",
    ),
    "max-24h-send": Reason(
        "a 24-hour quota has no room for the message's recipients",
        "The sender has to wait until earlier messages are 24 hours old, or the limit that "
        "was reached has to be raised (`smtpgate quota raise'): an account's by the "
        "operator, a user's or access key's by the account's administrator, an identity's "
        "by its owner.",
        reply="daily-quota",
        is_uncounted=True,
        is_over_limit=True,
        is_sender_controlled=True,
    ),
    "max-send-rate": Reason(
        "the sender exceeds a sending rate",
        "The sender has to try again a little later, as mail servers do by themselves, or "
        "to send more slowly; or the limit that was reached has to be raised (`smtpgate "
        "quota raise').",
        reply="send-rate",
        is_uncounted=True,
        is_over_limit=True,
        is_sender_controlled=True,
    ),
    "no-signing-key": Reason(
        "the From identity's domain has no DKIM key, and signing is required",
        "The identity's owner needs an active DKIM key for the From domain, with its "
        "record published. Or the operator sets signing.require = false.",
        reply="signing-failed",
        is_lasting=True,
        is_sender_controlled=True,
    ),
    "mail-from-not-verified": Reason(
        "the From identity's MAIL FROM domain has no MX record that leads to the gate",
        "The identity's owner has to publish the MX record (`smtpgate identity mail-from "
        "show'), or to allow the sender's own MAIL FROM while it is missing (`smtpgate "
        "identity mail-from set --on-mx-failure default').",
        reply="mail-from-not-verified",
        is_lasting=True,
        is_sender_controlled=True,
    ),
    "signing-failed": Reason(
        "the DKIM signature could not be made",
        "The operator has to look at the gate's log, which has the error, and at the DKIM key.",
        reply="signing-failed",
        is_inner=True,
    ),
    "needs-8bitmime": Reason(
        "the message has 8-bit octets, and the upstream lacks 8BITMIME",
        "The sender has to encode the message in 7 bits, or the operator has to relay to "
        "an upstream that offers 8BITMIME.",
        reply="needs-8bitmime",
        is_upstreams=True,
    ),
    "needs-smtputf8": Reason(
        "the message is internationalised, and the upstream lacks SMTPUTF8",
        "The sender has to use ASCII addresses and header fields, or the operator has to "
        "relay to an upstream that offers SMTPUTF8.",
        reply="upstream-lacks-smtputf8",
        is_upstreams=True,
    ),
    "needs-binarymime": Reason(
        "the message is binary, and the upstream lacks BINARYMIME",
        "The sender has to encode the message in 7 or 8 bits, or the operator has to relay "
        "to an upstream that offers BINARYMIME.",
        reply="needs-binarymime",
        is_upstreams=True,
    ),
    "needs-requiretls": Reason(
        "the sender required TLS, and the upstream lacks REQUIRETLS over verified TLS",
        "The sender has to send without REQUIRETLS, or the operator has to relay to an "
        'upstream that offers it, with tls = "required".',
        reply="needs-requiretls",
        is_upstreams=True,
    ),
    "upstream-reply": Reason(
        "the upstream refused; its own reply was passed on",
        "The upstream refused. Its reply is below; ask its operator for the reason.",
        is_upstreams=True,
    ),
    "upstream-unreachable": Reason(
        "the upstream could not be reached, or closed the connection before the end",
        "The operator has to make the upstream reachable. Nothing was accepted: the "
        "message can be sent again.",
        reply="upstream-unreachable",
        is_inner=True,
    ),
    "upstream-busy": Reason(
        "too many messages of the account wait for a connection to the upstream",
        "The sender has to send over fewer connections, or the operator raises "
        "max_connections or max_waiting_per_account of the upstream. Nothing was "
        "accepted.",
        reply="upstream-busy",
    ),
    "client-gone": Reason(
        "the client disconnected while its message waited; nothing was sent",
        "The client closed its connection and did not wait for the reply. Nothing was "
        "sent. When it tries again it has to wait longer (RFC 5321 §4.5.3.2.6: 10 "
        "minutes).",
        reply="client-gone",
        is_sender_controlled=True,
    ),
    "recipients-refused": Reason(
        "the upstream rejected some recipients; the next try has the others",
        "None is needed if the sender tries again, as mail servers do: the gate then "
        "rejects these recipients at RCPT, or reports them, and the message goes to the "
        "others.",
        reply="recipients-refused",
    ),
    "recipients-deferred": Reason(
        "the upstream deferred some recipients; the next try has the others",
        "None is needed if the sender tries again, as mail servers do: the gate then "
        "defers these recipients at RCPT, and the message goes to the others.",
        reply="recipients-deferred",
    ),
    "in-doubt": Reason(
        "the whole message was sent, and the upstream did not reply",
        "Before the message is sent again, ask the operator of the upstream whether it has "
        "the message: otherwise it may arrive twice, or not at all. Its recipients stay "
        "counted.",
        reply="upstream-in-doubt",
        is_inner=True,
    ),
    "gate-stopped": Reason(
        "the gate was stopped by force before the upstream had the message",
        "Nothing was accepted. The client sends the message again; with a longer "
        "gate.drain_s more messages are completed before a stop.",
        reply="temporary-failure",
    ),
    "directory-unavailable": Reason(
        "accounts, identities or policies could not be read",
        "The operator has to make the directory's database reachable.",
        reply="temporary-failure",
        is_inner=True,
    ),
    "ledger-unavailable": Reason(
        "the sending limits could not be counted",
        "The operator has to make the ledger's store reachable, or sets "
        'limits.on_store_failure = "allow".',
        reply="temporary-failure",
        is_inner=True,
        is_uncounted=True,
    ),
    "journal-unavailable": Reason(
        "the journal could not be written, and nothing is sent without a record",
        "The operator has to make the journal writable (is the disk full?), or sets "
        'journal.on_failure = "allow".',
        reply="temporary-failure",
        is_inner=True,
    ),
    "internal-error": Reason(
        "an error of the gate itself; its log has the traceback",
        "This is a fault of the gate. The log has the traceback, at the same time.",
        reply="temporary-failure",
        is_inner=True,
    ),
    "invalid-credentials": Reason(
        "",
        "The client has to log in with the access key's id and the SMTP password that was "
        "derived for this gate's region; it is not the secret itself.",
        at_login="there is no such access key, or this is not its password",
        reply="auth-invalid",
    ),
    "other-identity": Reason(
        "",
        "The client has to leave the authorization identity of PLAIN empty, or, with a "
        "token, the user name: a login can act only for itself.",
        at_login="the login asks to act for another user than the one that logs in",
        reply="auth-invalid",
    ),
    "invalid-token": Reason(
        "",
        "The client has to log in with a token (JWT) of a configured issuer, made for its "
        "audience and not expired; the gate's log says what is wrong with it.",
        at_login="the token is not one that a configured issuer made for this gate just now",
        reply="auth-invalid",
    ),
    "token-without-login": Reason(
        "",
        "The operator has to add a [[login]] that matches the token's claims and names "
        "an access key that exists; two that match have to name the same one.",
        at_login="the token is genuine, but no access key is configured for its claims",
        reply="auth-invalid",
    ),
}
"""Every reason, of submissions first."""

REASONS: Final = {code: row for code, row in ALL_REASONS.items() if row.meaning}
"""The reasons of refused submissions."""

LOGIN_REASONS: Final = {code: row for code, row in ALL_REASONS.items() if row.at_login}
"""The reasons of refused logins."""

_OTHER: Final = Reason("", "")


def reason_row(code: str) -> Reason:
    """The row of a reason code; an empty row if it is not a refusal, such as ``accepted``."""
    return ALL_REASONS.get(code, _OTHER)
