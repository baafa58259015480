"""What to change when a message or a login was refused: one piece of advice a reason code."""

from collections.abc import Mapping
from typing import Final

# By reason code. What names somebody says who can do it: the sender, the owner of the identity,
# or the operator of this gate.
ADVICE: Final[Mapping[str, str]] = {
    "relaying": (
        "The gate has sent it on and has no verdict yet, or it ended before it had one. Look "
        "again in a minute; if the gate was ended by force, ask the upstream."
    ),
    "malformed-message": (
        "The sender's software has to write a header block that can be read in one way only: "
        "`Name: value' lines that end with CRLF, then an empty line."
    ),
    "bad-line-ends": (
        "The sender's software has to end every line with CRLF. Where it cannot, the operator "
        'may set message.bare_lf = "normalize", which repairs bare LF, not bare CR or NUL.'
    ),
    "long-line": (
        "The sender's software has to fold header fields, and to write a body with long lines "
        "as quoted-printable or base64: most servers break such a line, and the signature with "
        'it. Where it cannot, the operator may set message.long_lines = "pass".'
    ),
    "duplicate-field": (
        "The sender's software has to write that field once: mail programs differ in which of "
        "two they show."
    ),
    "bad-author": (
        "The sender has to write one From field with complete addresses, and at most one "
        "Sender with one. Names with special characters belong in quotes, and a name must not "
        "show an angle bracket, or another address than the one behind it."
    ),
    "unqualified-address": (
        "The sender has to write whole addresses: a mail server behind the gate may complete a "
        "lone name with a domain of its own, and break the signature. A display name with a "
        "comma in it belongs in quotes, or it is read as two addresses."
    ),
    "invalid-arn": (
        "The sender has to write arn:aws:ses:REGION:ACCOUNT:identity/NAME into the X-SES "
        "field, or leave it out."
    ),
    "wrong-region": (
        "The sender has to name the identity's ARN with the region of this gate (gate.region)."
    ),
    "not-aligned": (
        "The sender has to use an address that the named identity covers, or name the identity "
        "that covers the address. A domain covers its subdomains, an address its +labels."
    ),
    "not-verified": (
        "The sender has to verify an identity that covers the address, or name by ARN the "
        "identity of somebody whose policies let it send."
    ),
    "explicit-deny": (
        "The Deny is final, whatever else is allowed: who wrote it has to take it away or to "
        "narrow it, or the sender has to send what it is not about."
    ),
    "implicit-deny": (
        "What no statement allows is refused. `smtpgate policy generate' writes a policy, "
        "`smtpgate simulate' tries it."
    ),
    "access-key-inactive": (
        "The sender has to use an access key that is active, or the account's administrator "
        "makes this one active again."
    ),
    "access-key-expired": (
        "The sender has to use a newer access key, or the account's administrator moves this "
        "one's end."
    ),
    "network-not-allowed": (
        "The sender has to send from a network of its access key, or the account's "
        "administrator adds this one. Behind a proxy, the operator has to check "
        "listener.NAME.proxy_from."
    ),
    "account-paused": "The operator has to let the account send again.",
    "identity-paused": "The identity's owner, or the operator, has to let it be used again.",
    "max-24h-send": (
        "The sender has to wait until what it sent is 24 hours old, or the limit that was "
        "reached is raised (`smtpgate quota raise'): an account's by the operator, a user's or "
        "access key's by the account's administrator, an identity's by its owner."
    ),
    "max-send-rate": (
        "The sender has to try again a little later, as mail servers do by themselves, or to "
        "send more slowly; or the limit that was reached is raised (`smtpgate quota raise')."
    ),
    "no-signing-key": (
        "The identity's owner needs a DKIM key for the From domain that signs: one whose "
        "record is published. Or the operator sets signing.require = false."
    ),
    "signing-failed": (
        "The operator has to look at the gate's log, which has the error, and at the DKIM key."
    ),
    "needs-8bitmime": (
        "The sender has to encode the message in 7 bits, or the operator has to relay to an "
        "upstream that offers 8BITMIME."
    ),
    "needs-smtputf8": (
        "The sender has to use ASCII addresses and header fields, or the operator has to relay "
        "to an upstream that offers SMTPUTF8."
    ),
    "upstream-reply": (
        "The upstream decided. What it said stands below; its operator can say why."
    ),
    "upstream-unreachable": (
        "The operator has to see that the upstream answers. Nothing was accepted, so trying "
        "again does no harm."
    ),
    "upstream-busy": (
        "The sender has to send over fewer connections, or the operator raises max_connections "
        "or max_waiting_per_account of the upstream. Nothing was accepted."
    ),
    "client-gone": (
        "The client closed its connection and did not wait for the verdict. Nothing was sent. "
        "It has to wait longer (RFC 5321 §4.5.3.2.6: 10 minutes) when it tries again."
    ),
    "recipients-refused": (
        "Nothing, if the sender tries again, as mail servers do: the gate rejects "
        "these recipients at RCPT then, and the message goes to the others."
    ),
    "recipients-deferred": (
        "Nothing, if the sender tries again, as mail servers do: the gate defers "
        "these recipients at RCPT then, and the message goes to the others."
    ),
    "in-doubt": (
        "Ask the operator of the upstream whether it has the message before it is sent again: "
        "else it may arrive twice, or not at all. Its recipients stay counted."
    ),
    "gate-stopped": (
        "Nothing was accepted. The client sends it again; a longer gate.drain_s lets more "
        "messages end before a stop."
    ),
    "directory-unavailable": "The operator has to see that the directory's database answers.",
    "ledger-unavailable": (
        "The operator has to see that the ledger can count, or sets "
        'limits.on_store_failure = "allow".'
    ),
    "journal-unavailable": (
        "The operator has to see that the journal can be written (a full disk?), or sets "
        'journal.on_failure = "allow".'
    ),
    "internal-error": (
        "It is a fault of the gate. The operator finds its traceback in the log, by the time."
    ),
    "other-identity": (
        "The client has to leave the authorization identity of PLAIN empty: a login acts only "
        "for itself."
    ),
    "invalid-credentials": (
        "The client has to log in with the access key's id and the SMTP password that was "
        "derived for this gate's region; it is not the secret itself."
    ),
}

# When no statement allows: by the side that did not, and what of its closest Allow did not fit.
DENIAL_ADVICE: Final[Mapping[tuple[str, str], str]] = {
    ("user", "nothing"): (
        "The administrator of the sender's account has to give the user a policy that allows "
        "ses:SendRawEmail."
    ),
    ("user", "Action"): (
        "The administrator of the sender's account has to allow ses:SendRawEmail: that is what "
        "sending by SMTP is."
    ),
    ("user", "Resource"): (
        "The administrator of the sender's account has to add the identity's ARN to Resource."
    ),
    ("user", "condition"): (
        "The sender has to send what its user policy allows, or the administrator of its "
        "account changes the condition."
    ),
    ("identity", "nothing"): (
        "The identity's owner has to attach a policy that allows the sender ses:SendRawEmail."
    ),
    ("identity", "Principal"): (
        "The identity's owner has to name the sender in Principal: its account id, or the "
        "user's ARN."
    ),
    ("identity", "Action"): (
        "The identity's owner has to allow ses:SendRawEmail: that is what sending by SMTP is."
    ),
    ("identity", "Resource"): (
        "The identity's owner has to write the identity's own ARN into Resource."
    ),
    ("identity", "condition"): (
        "The sender has to send what the condition asks for, or the identity's owner changes "
        "it."
    ),
}


def denial_advice(side: str, element: str | None) -> str:
    """Advice about the closest Allow of a side; ``element`` is ``None`` when it has none."""
    kind = "nothing" if element is None else element.removeprefix("Not")
    return DENIAL_ADVICE.get((side, kind)) or DENIAL_ADVICE[side, "condition"]
