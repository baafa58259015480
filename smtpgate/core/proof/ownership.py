"""The proof that a domain is its owner's: a token that only the domain's owner can publish.

The token is published in a TXT record at ``LABEL.DOMAIN``, as Amazon SES has it at
``_amazonses.DOMAIN``. If names with an underscore cannot be published, ``PREFIX:TOKEN`` at the
domain itself is accepted too. There may be other TXT records beside it.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final

from smtpgate.core.address import MAX_DOMAIN_OCTETS
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.observation import Absent, Found, excerpt

DEFAULT_LABEL: Final = "_smtpgate"
SES_LABEL: Final = "_amazonses"

TOKEN_OCTETS: Final = 32
_LABEL: Final = re.compile(r"(?=_*[a-z0-9])[a-z0-9_-]{0,62}[a-z0-9]")


class RecordLabelError(ValueError):
    """A text that cannot be the label of verification records."""


def parse_label(text: str) -> str:
    """The label in lower case: letters, digits, hyphens, underscores.

    Raises RecordLabelError.
    """
    label = text.lower()
    if _LABEL.fullmatch(label) is None:
        raise RecordLabelError(f"{text!r} is not a label such as {DEFAULT_LABEL!r}")
    return label


def new_token(random_octets: bytes) -> str:
    """A token of 32 random octets in base64, as Amazon SES makes them."""
    if len(random_octets) != TOKEN_OCTETS:
        raise ValueError(f"a token is made of {TOKEN_OCTETS} octets, not {len(random_octets)}")
    return base64.b64encode(random_octets).decode("ascii")


def ownership_records(
    domain: str, token: str, label: str = DEFAULT_LABEL
) -> tuple[DnsRecord, ...]:
    """The TXT records of which one has to be published, the usual one first.

    The usual one is left out if its name would be too long for the DNS.
    """
    usual = DnsRecord(f"{label}.{domain}", token)
    at_domain = DnsRecord(domain, f"{label.lstrip('_')}:{token}")
    return (usual, at_domain) if len(usual.name) <= MAX_DOMAIN_OCTETS else (at_domain,)


def token_seen(wanted: DnsRecord, published: Sequence[bytes]) -> Found | Absent:
    """The observation of a record among those published at its name.

    White space and quotation marks around it are ignored: some forms for DNS records add them.
    """
    values = [octets.strip().strip(b'"').strip() for octets in published]
    if wanted.value.encode() in values:
        return Found("txt")
    if not published:
        return Absent(f"no TXT record at {wanted.name}")
    number, first = len(published), excerpt(published[0])
    if number == 1:
        return Absent(f"the TXT record at {wanted.name} is {first}")
    return Absent(
        f"none of the {number} TXT records at {wanted.name} is right, such as {first}"
    )
