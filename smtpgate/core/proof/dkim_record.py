"""DKIM key records: read as a verifier reads them, and compared with what should be there."""

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
    """A TXT record that is no DKIM key record."""


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
        """True if it says that the key is not to be trusted any more."""
        return not self.public_key

    @property
    def is_test(self) -> bool:
        """True if the domain says that it only tries DKIM out."""
        return "y" in self.flags


@dataclass(frozen=True, slots=True)
class DkimCheck:
    """What became of the question whether a key is published; ``text`` says more.

    ``several`` is more than one record at the name, of which a verifier takes any
    (RFC 6376 §3.6.2.2).
    """

    kind: CheckKind
    text: str = ""

    @property
    def observation(self) -> Observation:
        """What it says about who owns the domain."""
        if self.kind == "matches":
            return Found("dkim")
        return Unanswered(self.text) if self.kind == "unanswered" else Absent(self.text)


def unanswered(why: str) -> DkimCheck:
    """The check for which there was no answer."""
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
    """True if a verifier that reads what is published accepts what the wanted key signs.

    ``published`` has the TXT records at the key's name, each with its strings joined;
    ``wanted_record`` is the record that should be there, and has to be one.
    """
    wanted = parse_dkim_record(wanted_record.encode())
    if not published:
        return DkimCheck("absent", "no TXT record is published")
    if len(published) > 1:
        text = f"{len(published)} TXT records are published, and verifiers take any of them"
        return DkimCheck("several", text)
    try:
        found = parse_dkim_record(published[0])
    except DkimRecordError as error:
        text = f"the TXT record {excerpt(published[0])} is no DKIM record: {error}"
        return DkimCheck("differs", text)
    if found.is_revoked:
        return DkimCheck("revoked", "the record revokes the key: its tag p is empty")
    difference = _difference(found, wanted)
    if difference:
        return DkimCheck("differs", difference)
    return DkimCheck("matches", "the record says t=y, a test" if found.is_test else "")


def _difference(found: DkimRecord, wanted: DkimRecord) -> str:
    """What in the record keeps verifiers from accepting the key's signatures."""
    if found.key_type != wanted.key_type:
        key_type = excerpt(found.key_type.encode())
        return f"the key's type is {key_type}, not {wanted.key_type!r}"
    if found.public_key != wanted.public_key:
        length, wanted_length = len(found.public_key), len(wanted.public_key)
        if wanted.public_key.startswith(found.public_key):
            return f"the public key is cut short: {length} of {wanted_length} octets"
        return "it is another public key"
    if found.hashes is not None and _OUR_HASH not in found.hashes:
        return f"the tag h does not allow {_OUR_HASH}"
    if not found.services & {"*", "email"}:
        return "the tag s does not allow email"
    return ""


def _tags(octets: bytes) -> dict[str, str]:
    """The tag list as a mapping (RFC 6376 §3.2)."""
    specs = octets.split(b";")
    if len(specs) > 1 and not specs[-1].strip(_WHITE):
        specs.pop()  # a semicolon may stand at the end
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = (part.strip(_WHITE) for part in spec.partition(b"="))
        if not equals or _TAG_NAME.fullmatch(name) is None:
            raise DkimRecordError(f"{excerpt(spec)} is no tag such as p=...")
        if _TAG_VALUE.fullmatch(value) is None:
            raise DkimRecordError(f"the tag {excerpt(name)} has a character it cannot have")
        tag = name.decode("ascii")
        if tag in tags:
            raise DkimRecordError(f"the tag {excerpt(name)} is there twice")
        if tag == "v" and tags:
            raise DkimRecordError("the tag v is not the first")
        tags[tag] = value.decode("ascii")
    return tags


def _words(value: str) -> frozenset[str]:
    """A list with colons, such as ``sha1:sha256``."""
    return frozenset(word.strip() for word in value.split(":")) - {""}


def _public_key(value: str) -> bytes:
    """The octets of base64 text that may hold white space (RFC 6376 §2.10)."""
    text = "".join(value.split()).encode("ascii")
    if not text:
        return b""
    if _BASE64.fullmatch(text) is None:
        raise DkimRecordError("the tag p is not base64")
    bare = text.rstrip(b"=")
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise DkimRecordError("the tag p is base64 that is cut short") from None
