"""JSON of what is written for every message: ASCII without spaces, on one line.

msgspec encodes it in a fifteenth of the standard library's time. It takes only structs, so that
all that is written is declared: it would write any dataclass with all its fields, a secret's
too. It leaves characters beyond ASCII as they are, but among them are controls that a terminal
obeys, and a database may be unable to store them; so they are escaped afterwards. They stand
nowhere but in strings.
"""

import codecs
import json
from typing import Final

import msgspec

# The one control in ASCII that JSON allows as it is.
_DELETE: Final = 0x7F
_encode: Final = msgspec.json.Encoder().encode


def json_text(value: msgspec.Struct) -> str:
    """The text of a struct."""
    return json_octets(value).decode("ascii")


def json_octets(value: msgspec.Struct) -> bytes:
    """The text of a struct as octets, which are ASCII."""
    try:
        octets = _encode(value)
    except UnicodeEncodeError:
        return _encode_slowly(value)
    if _DELETE in octets:
        octets = octets.replace(b"\x7f", rb"\u007f")
    return octets if octets.isascii() else octets.decode().encode("ascii", _ESCAPED)


def json_members(value: msgspec.Struct) -> bytes:
    """The members of a struct as octets, for an object that has members of others too."""
    return json_octets(value)[1:-1]


def json_part(value: object) -> msgspec.Raw:
    """The text of lists and structs, for a field of a struct whose text it becomes part of."""
    try:
        return msgspec.Raw(_encode(value))
    except UnicodeEncodeError:
        return msgspec.Raw(_encode_slowly(value))


def _encode_slowly(value: object) -> bytes:
    """The text of what has half a surrogate pair, which the standard library escapes."""
    plain = msgspec.to_builtins(value, enc_hook=_read_part)
    return json.dumps(plain, separators=(",", ":")).encode("ascii")


def _read_part(part: object) -> object:
    if isinstance(part, msgspec.Raw):
        return json.loads(bytes(part))
    raise TypeError(part)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write characters as JSON's escapes (RFC 8259 §7)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    octets = error.object[error.start : error.end].encode("utf-16-be")
    units = (octets[at : at + 2].hex() for at in range(0, len(octets), 2))
    return "".join(f"\\u{unit}" for unit in units), error.end


_ESCAPED: Final = "smtpgate.json"
codecs.register_error(_ESCAPED, _escape)
