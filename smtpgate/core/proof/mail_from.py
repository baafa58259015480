"""The MAIL FROM domain of an identity: bounces of its mail come in under that domain.

The owner publishes an MX record that names the gate's feedback listener, and an SPF record that
names the hosts which send its mail. The state follows the MX record as it follows the proof of
an identity: pending for 72 hours, and a success whose record is gone stays one for 72 hours
(https://docs.aws.amazon.com/ses/latest/dg/mail-from.html).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from smtpgate.core.address import AddressError, domain_of, parse_domain
from smtpgate.core.proof.dns_record import DnsRecord, MxRecord
from smtpgate.core.proof.observation import Absent, Found, Observation, excerpt
from smtpgate.core.proof.verification import Verification

OnMxFailure = Literal["default", "reject"]

_SPF: Final = b"v=spf1"
_MAX_SHOWN: Final = 4


class Mx(NamedTuple):
    """An MX record as the DNS has it; the host is in lower case, without a final dot."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFromDomain:
    """A MAIL FROM domain with the state of its MX record.

    ``on_mx_failure`` says what becomes of a message while the record is not there: by
    ``default`` MAIL FROM stays the client's, with ``reject`` the message is refused.
    """

    domain: str
    on_mx_failure: OnMxFailure = "default"
    verification: Verification


class MailFromError(ValueError):
    """A domain that an identity cannot have as MAIL FROM domain; the text says why."""


def parse_mail_from(text: str, identity_name: str) -> str:
    """The MAIL FROM domain in its one spelling: a subdomain of the identity's domain.

    Raises MailFromError.
    """
    parent = domain_of(identity_name) if "@" in identity_name else identity_name
    try:
        domain = parse_domain(text)
    except AddressError as error:
        raise MailFromError(f"`{text}' is no domain: {error}") from None
    if not domain.endswith(f".{parent}"):
        raise MailFromError(f"`{domain}' is no subdomain of {parent}")
    return domain


def mail_from_records(domain: str, host: str, spf: str) -> tuple[MxRecord, DnsRecord]:
    """The records to publish: the MX of the feedback listener, and the SPF policy."""
    return MxRecord(domain, host), DnsRecord(domain, f"v=spf1 {spf} ~all")


def mx_seen(host: str, records: Sequence[Mx]) -> Observation:
    """The observation of a domain's MX records: there must be one, and it names the host."""
    if [record.host for record in records] == [host]:
        return Found("mx")
    if not records:
        return Absent(f"there is no MX record, and {host} is expected")
    shown = ", ".join(excerpt(record.host.encode()) for record in records[:_MAX_SHOWN])
    return Absent(f"MX is {shown}, and {host} alone is expected")


def spf_problem(records: Sequence[bytes]) -> str:
    """The problem of a domain's TXT records as an SPF policy (RFC 7208 §4.5), or nothing.

    It does not matter here which hosts the policy names: they are the owner's.
    """
    policies = [one for one in records if one.lower().split(b" ")[0] == _SPF]
    if len(policies) == 1:
        return ""
    return "there is no SPF record" if not policies else "there are several SPF records"
