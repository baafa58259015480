"""DKIM key records: read as a verifier reads them, and compared with the expected record."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from smtpgate.core.proof.observation import Absent, Found, Observation, Unanswered, excerpt

CheckKind = Literal["matches", "absent", "differs", "revoked", "several", "unanswered"]

_WHITE: Final = b" \t\r\n"
_TAG_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_TAG_VALUE: Final = re.compile(rb"[\x21-\x3a\x3c-\x7e \t\r\n]*")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_OUR_HASH: Final = "sha256"


class DkimRecordError(ValueError):
    """A TXT record that is not a DKIM key record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimRecord:
    """A DKIM key record (RFC 6376 §3.6.1).

    ``public_key`` is empty when the key was revoked. ``hashes`` is ``None`` when all are
    accepted.
    """

    public_key: bytes
    key_type: str = "rsa"
    hashes: frozenset[str] | None = None
    services: frozenset[str] = frozenset({"*"})
    flags: frozenset[str] = frozenset()
    notes: str = ""

    @property
    def is_revoked(self) -> bool:
        """True if the record revokes the key."""
        return not self.public_key

    @property
    def is_test(self) -> bool:
        """True if the domain is only testing DKIM (``t=y``)."""
        return "y" in self.flags


@dataclass(frozen=True, slots=True)
class DkimCheck:
    """The result of checking whether a key is published; ``text`` has the details.

    ``several`` is more than one record at the name, of which a verifier may use any
    (RFC 6376 §3.6.2.2).
    """

    kind: CheckKind
    text: str = ""

    @property
    def observation(self) -> Observation:
        """The same as evidence of the domain's ownership."""
        if self.kind == "matches":
            return Found("dkim")
        return Unanswered(self.text) if self.kind == "unanswered" else Absent(self.text)


def unanswered(why: str) -> DkimCheck:
    """The result of a check without an answer."""
    return DkimCheck("unanswered", why)


def dkim_name(selector: str, domain: str) -> str:
    """The name at which the key of that selector is published (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def parse_dkim_record(octets: bytes) -> DkimRecord:
    """Read a TXT record, its strings joined. Raises DkimRecordError."""
    tags = _tags(octets)
    version = tags.pop("v", "DKIM1")
    if version != "DKIM1":
        raise DkimRecordError(f"the version {excerpt(version.encode())} is not DKIM1")
    if "p" not in tags:
        raise DkimRecordError("there is no tag p with the public key")
    return DkimRecord(
        public_key=_public_key(tags["p"]),
        key_type=tags.get("k", "rsa"),
        hashes=_words(tags["h"]) if "h" in tags else None,
        services=_words(tags.get("s", "*")),
        flags=_words(tags.get("t", "")),
        notes=tags.get("n", ""),
    )


def compare(published: Sequence[bytes], wanted_record: str) -> DkimCheck:
    """Check that a verifier that reads the published records accepts the key's signatures.

    ``published`` has the TXT records at the key's name, each with its strings joined;
    ``wanted_record`` is the expected record, and must be a valid one.
    """
    wanted = parse_dkim_record(wanted_record.encode())
    if not published:
        return DkimCheck("absent", "no TXT record is published")
    if len(published) > 1:
        text = f"{len(published)} TXT records are published, and verifiers may use any of them"
        return DkimCheck("several", text)
    try:
        found = parse_dkim_record(published[0])
    except DkimRecordError as error:
        text = f"the TXT record {excerpt(published[0])} is not a DKIM record: {error}"
        return DkimCheck("differs", text)
    if found.is_revoked:
        return DkimCheck("revoked", "the record revokes the key: its tag p is empty")
    difference = _difference(found, wanted)
    if difference:
        return DkimCheck("differs", difference)
    return DkimCheck("matches", "the record has t=y (test)" if found.is_test else "")


def _difference(found: DkimRecord, wanted: DkimRecord) -> str:
    """The difference because of which verifiers reject the key's signatures, or nothing."""
    if found.key_type != wanted.key_type:
        key_type = excerpt(found.key_type.encode())
        return f"the key's type is {key_type}, not {wanted.key_type!r}"
    if found.public_key != wanted.public_key:
        length, wanted_length = len(found.public_key), len(wanted.public_key)
        if wanted.public_key.startswith(found.public_key):
            return f"the public key is truncated: {length} of {wanted_length} octets"
        return "the public key is another one"
    if found.hashes is not None and _OUR_HASH not in found.hashes:
        return f"the tag h does not allow {_OUR_HASH}"
    if not found.services & {"*", "email"}:
        return "the tag s does not allow email"
    return ""


def _tags(octets: bytes) -> dict[str, str]:
    """The tag list as a mapping (RFC 6376 §3.2)."""
    specs = octets.split(b";")
    if len(specs) > 1 and not specs[-1].strip(_WHITE):
        specs.pop()  # a semicolon is allowed at the end
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = (part.strip(_WHITE) for part in spec.partition(b"="))
        if not equals or _TAG_NAME.fullmatch(name) is None:
            raise DkimRecordError(f"{excerpt(spec)} is not a tag such as p=...")
        if _TAG_VALUE.fullmatch(value) is None:
            raise DkimRecordError(f"the tag {excerpt(name)} has an invalid character")
        tag = name.decode("ascii")
        if tag in tags:
            raise DkimRecordError(f"the tag {excerpt(name)} occurs twice")
        if tag == "v" and tags:
            raise DkimRecordError("the tag v is not the first")
        tags[tag] = value.decode("ascii")
    return tags


def _words(value: str) -> frozenset[str]:
    """A list with colons, such as ``sha1:sha256``."""
    return frozenset(word.strip() for word in value.split(":")) - {""}


def _public_key(value: str) -> bytes:
    """The octets of base64 text that may contain white space (RFC 6376 §2.10)."""
    text = "".join(value.split()).encode("ascii")
    if not text:
        return b""
    if _BASE64.fullmatch(text) is None:
        raise DkimRecordError("the tag p is not base64")
    bare = text.rstrip(b"=")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise DkimRecordError("the tag p is truncated base64") from None
