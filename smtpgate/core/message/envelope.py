"""A submission of a front end: the sender, its client, the envelope, the message."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import IPv6Address, IPv6Network
from operator import attrgetter
from typing import Final, Literal, Self

from msgspec import Struct, structs
from msgspec.structs import force_setattr

from smtpgate.core.account import AccessKey, Principal, SendingLimits
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.body import StoredMessage

# RFC 6177 §2: a site has at least so much, and each of its hosts can use all of it.
_IPV6_PREFIX: Final = 64
# The action of a message that is submitted by SMTP, as policies name it.
SEND_RAW_EMAIL: Final = "ses:SendRawEmail"
Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]
Return = Literal["", "FULL", "HDRS"]


class SmtpFacts(Struct, frozen=True, gc=False):
    """The facts of a client that only an SMTP session knows.

    ``helo`` is the name that the client gave, ``mechanism`` that of its last AUTH, and
    ``proxy`` the address of the proxy that named the client.
    """

    helo: str = ""
    tls_version: str | None = None
    tls_cipher: str | None = None
    mechanism: str = ""
    proxy: str = ""


_NO_SMTP: Final = SmtpFacts()


class Client(Struct, frozen=True, gc=False, kw_only=True):
    """The other end of a connection, as every front end knows it.

    ``protocol`` is the word for it in a Received field. The access key and its account are
    those of the login, and empty before it. ``certificate`` is the pin of the one that the
    client showed in the TLS handshake, ``token`` the owner of the token that it logged in with.
    """

    address: str
    port: int = 0
    listener: str
    protocol: str
    is_tls: bool = False
    session_id: str = ""
    access_key_id: str = ""
    account_id: str = ""
    certificate: str = ""
    token: str = ""
    smtp: SmtpFacts = _NO_SMTP

    def logged_in(self, access_key_id: str, account_id: str) -> Self:
        """The client after its login with an access key of an account."""
        return structs.replace(self, access_key_id=access_key_id, account_id=account_id)

    def speaking_for(self, address: str, port: int) -> Self:
        """The client that this one, a proxy, names as the other end of its connection."""
        smtp = SmtpFacts(proxy=self.address)
        return structs.replace(self, address=address, port=port, smtp=smtp)


def network_of_client(address: str) -> str:
    """The address that counts as one client: of an IPv6 host it is its network."""
    if ":" not in address:
        return address
    try:
        known = IPv6Address(address)
    except ValueError:
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Network((known, _IPV6_PREFIX), strict=False))


class Recipient(Struct, frozen=True, gc=False):
    """One forward-path with its delivery options (RFC 3461 §4.1, §4.2).

    ``orcpt`` is the address type and the address that the sender named first, decoded.
    """

    mailbox: Mailbox
    notify: frozenset[Notify] = frozenset()
    orcpt: str | None = None


_MAILBOX: Final = attrgetter("mailbox")


class Envelope(Struct, frozen=True, gc=False):
    """Reverse-path and forward-paths; not the header (RFC 5321 §2.3.1).

    ``envelope_id`` and ``returned`` are the options of MAIL for delivery status notifications
    (RFC 3461 §4.3, §4.4): ENVID, decoded, and RET. A message with ``body_binary`` has octets
    that only BDAT can carry (RFC 3030 §3); one with ``require_tls`` must not be relayed without
    verified TLS (RFC 8689 §2). ``mailboxes`` are the recipients without their options, and are
    made of them.
    """

    reverse_path: ReversePath
    recipients: Sequence[Recipient]
    smtputf8: bool = False
    body_8bit: bool = False
    envelope_id: str = ""
    returned: Return = ""
    body_binary: bool = False
    require_tls: bool = False
    mailboxes: tuple[Mailbox, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "mailboxes", tuple(map(_MAILBOX, self.recipients)))

    @classmethod
    def of(
        cls,
        reverse_path: ReversePath,
        mailboxes: Iterable[Mailbox],
        *,
        smtputf8: bool = False,
        body_8bit: bool = False,
    ) -> Self:
        """An envelope whose recipients have no delivery options."""
        return cls(reverse_path, tuple(map(Recipient, mailboxes)), smtputf8, body_8bit)

    def relayed(
        self,
        return_path: Mailbox | None,
        recipients: Sequence[Recipient] | None,
        *,
        smtputf8: bool,
        body_8bit: bool,
    ) -> "Envelope":
        """The envelope as the upstream gets it; mostly it is the client's.

        It has that return path and those recipients, if any are given, and asks for SMTPUTF8
        only if the client did and the message needs it.
        """
        smtputf8 = smtputf8 and self.smtputf8
        has_same_options = (smtputf8, body_8bit) == (self.smtputf8, self.body_8bit)
        if has_same_options and return_path is None and recipients is None:
            return self
        return Envelope(
            self.reverse_path if return_path is None else ReversePath(return_path),
            self.recipients if recipients is None else recipients,
            smtputf8=smtputf8,
            body_8bit=body_8bit,
            envelope_id=self.envelope_id,
            returned=self.returned,
            require_tls=self.require_tls,
        )


class Unrendered(Struct, frozen=True, gc=False):
    """A message of a template that the data could not complete: its template, and the problem.

    ``template`` is empty for one that came with the call.
    """

    template: str
    problem: str


class Submission(Struct, frozen=True, gc=False):
    """A whole message with its envelope, by an authenticated principal, not yet decided on.

    ``action`` is the name of the request in policies. ``message`` is not dot-stuffed; the front
    end has made its line ends whole if ``message.bare_lf`` is "normalize". ``key_limits`` are
    the access key's own. One that is ``unrendered`` has a header block without what the
    template was to give; it is accepted and not sent.
    """

    message_id: str
    principal: Principal
    client: Client
    action: str
    envelope: Envelope
    message: bytes | StoredMessage
    received_at: datetime
    key_limits: SendingLimits | None = None
    unrendered: Unrendered | None = None

    def by_key(self, key: AccessKey) -> "Submission":
        """The same submission, by the access key as the directory has it now."""
        return structs.replace(self, principal=key.principal, key_limits=key.limits)
