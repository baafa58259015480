"""The syntax of command lines: verbs, paths and parameters, read strictly."""

import re
from collections.abc import Callable, Mapping, Set
from functools import lru_cache
from typing import Final, TypeVar, get_args

from msgspec import Struct

from smtpgate.core.address import (
    AddressError,
    ReversePath,
    parse_forward_path,
    parse_reverse_path,
    plain_path,
    shown_path,
)
from smtpgate.core.message.envelope import Notify, Recipient, Return
from smtpgate.core.reply import Reply, reply_of

_VERB: Final = re.compile(rb"([A-Za-z]{1,20})(?:[ \t]+(.*))?", re.DOTALL)
# The space after the colon and the missing brackets are what clients of SES send
# (https://docs.aws.amazon.com/ses/latest/dg/send-email-smtp-client-command-line.html).
# In quotes a path may hold `<' and `>' (RFC 5321 §4.1.2). One whose quotes are wrong matches up
# to the first `>', so that the reply can say what is wrong.
_PATH: Final = (
    rb':[ ]*(<(?:[^<>"\r\n]++|"(?:[^"\\\r\n]|\\[^\r\n])*+")*+>'
    rb"|<[^<>\r\n]*>|[^ <>\r\n]+)((?:[ ]+[^ \r\n]+)*)[ ]*"
)
_FROM: Final = re.compile(b"FROM" + _PATH, re.IGNORECASE)
_TO: Final = re.compile(b"TO" + _PATH, re.IGNORECASE)
# RFC 6531 §3.3 lets UTF-8 into values; the grammar of each parameter says whether it may.
_PARAMETER: Final = re.compile(
    rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\xff]+))?"
)
# RFC 4954 §5, with xtext from RFC 3461 §4. No address has a control character, so xtext that
# stands for one is refused.
_MAIL_AUTH: Final = re.compile(
    rb"<>|(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+(?!7F)[2-9A-F][0-9A-F])+"
)
_XTEXT: Final = rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+(?!7F)[2-7][0-9A-F])"
_ENCODED: Final = re.compile(rb"\+([0-9A-F]{2})")
_CHUNK: Final = re.compile(rb"([0-9]{1,20})(?:[ ]+(LAST))?", re.IGNORECASE)
_MAX_HELO_OCTETS: Final = 255  # RFC 5321 §4.5.3.1.2
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
T = TypeVar("T")
_NOTIFY: Final[Mapping[str, Notify]] = {one: one for one in get_args(Notify)}
_RETURNS: Final[Mapping[bytes, Return]] = {one.encode(): one for one in get_args(Return)}
# Those whose parameters the gate can keep; each is offered where it is kept.
EXTENSIONS: Final = frozenset({"8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS"})
# The parameters of MAIL: the grammar of the value, the syntax in the reply to a wrong one, and
# the extension that has to be offered for it, if any.
_MAIL_PARAMETERS: Final = {
    "SIZE": (re.compile(rb"[0-9]{1,20}"), "SIZE=octets", ""),  # RFC 1870 §3
    "BODY": (re.compile(rb"7BIT|8BITMIME", re.IGNORECASE), "BODY=7BIT or BODY=8BITMIME", ""),
    "SMTPUTF8": (re.compile(rb""), "SMTPUTF8 without a value", "SMTPUTF8"),
    "AUTH": (_MAIL_AUTH, "AUTH=<> or AUTH=address in xtext", ""),
    # RFC 3461 §4.3 and §4.4
    "RET": (re.compile(rb"FULL|HDRS", re.IGNORECASE), "RET=FULL or RET=HDRS", "DSN"),
    "ENVID": (re.compile(_XTEXT + rb"{1,100}"), "ENVID=xtext", "DSN"),
    "REQUIRETLS": (re.compile(rb""), "REQUIRETLS without a value", "REQUIRETLS"),  # RFC 8689 §2
}
_KEPT: Final = ("RET", "ENVID", "REQUIRETLS")
# Parameters of extensions that are never offered: DELIVERBY (RFC 2852), FUTURERELEASE
# (RFC 4865), MT-PRIORITY (RFC 6710), RRVS (RFC 7293), CONPERM and CONNEG (RFC 4141), and
# CHECKPOINT (RFC 1845).
_OF_OTHERS: Final = frozenset(
    {"BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY", "RRVS", "CONPERM", "CONNEG", "TRANSID"}
)
# Those of RCPT: RFC 3461 §4.1 and §4.2, RFC 6533 §3.
_RCPT_PARAMETERS: Final = {
    "NOTIFY": (
        re.compile(
            rb"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}",
            re.IGNORECASE,
        ),
        "NOTIFY=NEVER or a list of SUCCESS, FAILURE and DELAY",
        "DSN",
    ),
    "ORCPT": (
        re.compile(
            rb"(?i:utf-8);(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){1,500}"
            rb"|[A-Za-z0-9-]{1,20};" + _XTEXT + rb"{1,500}"
        ),
        "ORCPT=type;address in xtext",
        "DSN",
    ),
}


class BadCommandError(Exception):
    """A command that is refused for its form; the session goes on."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def _refuse(name: str, **facts: object) -> BadCommandError:
    return BadCommandError(reply_of(name, **facts))


class MailCommand(Struct, frozen=True, gc=False):
    """MAIL FROM with the parameters that we use; BODY and AUTH are checked and ignored."""

    reverse_path: ReversePath
    size: int
    smtputf8: bool
    envelope_id: str = ""
    returned: Return = ""
    require_tls: bool = False


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Cut a command line into its verb, in upper case, and its argument."""
    match = _VERB.fullmatch(line)
    if match is None:
        return b"", b""
    return match[1].upper(), (match[2] or b"").strip(b" \t")


def parse_helo(argument: bytes) -> str:
    """The client's name for itself, in ASCII; it is logged, and never trusted.

    Many clients have no host name, and send some other word: any word is taken. The Received
    field has the safe characters of it.
    """
    name = argument.partition(b" ")[0]
    if not name:
        raise _refuse("syntax", syntax="EHLO hostname")
    if len(name) > _MAX_HELO_OCTETS:
        raise _refuse("bad-helo", problem=f"longer than {_MAX_HELO_OCTETS} octets")
    if _CONTROL.search(name):
        raise _refuse("bad-helo", problem="a control character in it")
    return name.decode("ascii", "backslashreplace")


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """Read ``octets [LAST]`` (RFC 3030 §2): the size of a chunk, and whether it is the last."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise _refuse("bad-chunk")
    return int(match[1]), match[2] is not None


@lru_cache(maxsize=256)  # many clients send one line for all messages of a sender
def parse_mail(argument: bytes, offered: frozenset[str] = EXTENSIONS) -> MailCommand:
    """Read ``FROM:<reverse-path> [parameters]`` (RFC 5321 §4.1.1.2, RFC 4954 §5).

    ``offered`` are the extensions that the client may use.
    """
    path, parameters = _split(_FROM.fullmatch(argument), "MAIL FROM:<address> [parameters]")
    if not parameters:
        return MailCommand(_reverse_path(path, smtputf8=False), 0, smtputf8=False)
    _check(parameters, _MAIL_PARAMETERS, offered)
    if parameters.get("BODY", b"").upper() == b"8BITMIME" and "8BITMIME" not in offered:
        raise _refuse("not-offered", parameter="BODY=8BITMIME")
    smtputf8 = "SMTPUTF8" in parameters
    reverse_path = _reverse_path(path, smtputf8=smtputf8)
    size = int(parameters.get("SIZE", b"0"))
    if parameters.keys().isdisjoint(_KEPT):
        return MailCommand(reverse_path, size, smtputf8)
    envelope_id = _from_xtext(parameters.get("ENVID", b""))
    returned = _RETURNS[parameters.get("RET", b"").upper()]
    require_tls = "REQUIRETLS" in parameters
    return MailCommand(reverse_path, size, smtputf8, envelope_id, returned, require_tls)


def parse_rcpt(argument: bytes, *, smtputf8: bool, offered: Set[str] = EXTENSIONS) -> Recipient:
    """Read ``TO:<forward-path>`` (RFC 5321 §4.1.1.3)."""
    if argument[:4].upper() == b"TO:<" and argument.isascii():  # as nearly all clients write it
        plain = plain_path(argument[3:].decode())
        if plain is not None:
            return Recipient(plain)
    path, parameters = _split(_TO.fullmatch(argument), "RCPT TO:<address>")
    if parameters:
        _check(parameters, _RCPT_PARAMETERS, offered)
    mailbox = _read(path, parse_forward_path, "bad-recipient", smtputf8=smtputf8)
    if not parameters:
        return Recipient(mailbox)
    words = parameters.get("NOTIFY", b"").upper().decode().split(",")
    notify = frozenset(_NOTIFY[word] for word in words if word)
    return Recipient(mailbox, notify, _original(parameters.get("ORCPT"), smtputf8=smtputf8))


def _check(
    parameters: Mapping[str, bytes],
    table: Mapping[str, tuple[re.Pattern[bytes], str, str]],
    offered: Set[str],
) -> None:
    for keyword, value in parameters.items():
        row = table.get(keyword)
        if row is None:
            name = "not-offered" if keyword in _OF_OTHERS else "unknown-parameter"
            raise _refuse(name, parameter=keyword)
        grammar, syntax, extension = row
        if extension and extension not in offered:
            raise _refuse("not-offered", parameter=keyword)
        if not grammar.fullmatch(value):
            raise _refuse("syntax", syntax=syntax)


def _original(value: bytes | None, *, smtputf8: bool) -> str | None:
    """The type and the address of ORCPT; that of the type ``utf-8`` stays as it is encoded."""
    if value is None:
        return None
    kind, _, address = value.partition(b";")
    if kind.lower() != b"utf-8":
        return f"{kind.decode()};{_from_xtext(address)}"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _refuse("syntax", syntax=_RCPT_PARAMETERS["ORCPT"][1]) from None
    if not (smtputf8 or text.isascii()):
        raise _refuse("needs-smtputf8", address=_shown(address))
    return text


def _from_xtext(value: bytes) -> str:
    return _ENCODED.sub(lambda found: bytes.fromhex(found[1].decode()), value).decode("ascii")


def _split(match: re.Match[bytes] | None, syntax: str) -> tuple[bytes, dict[str, bytes]]:
    if match is None:
        raise _refuse("syntax", syntax=syntax)
    path, words = match.groups()
    parameters: dict[str, bytes] = {}
    for word in words.split() if words else ():
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper().decode() in parameters:
            raise _refuse("syntax", syntax=syntax)
        parameters[parameter[1].upper().decode()] = parameter[2] or b""
    return path, parameters


@lru_cache(maxsize=256)  # most messages are from a few senders
def _reverse_path(path: bytes, *, smtputf8: bool) -> ReversePath:
    return ReversePath(_read(path, parse_reverse_path, "bad-sender", smtputf8=smtputf8))


def _read(path: bytes, parse: Callable[[str], T], refusal: str, *, smtputf8: bool) -> T:
    if not smtputf8 and not path.isascii():
        raise _refuse("needs-smtputf8", address=_shown(path))
    try:
        return parse(path.decode("utf-8"))
    except UnicodeDecodeError:
        raise _refuse(refusal, address=_shown(path), problem="not UTF-8") from None
    except AddressError as error:
        raise _refuse(refusal, address=_shown(path), problem=error) from None


def _shown(path: bytes) -> str:
    return shown_path(path.decode("utf-8", "backslashreplace"))
