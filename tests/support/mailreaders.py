"""Programs that read From and Sender, each behind the same words, and what to compare.

What they return is compared with the gate's reading of the same octets, those that it would
send on. A reader that finds an address more, less or another is shown with the message.
"""

import base64
import email.policy
import email.utils
import inspect
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.headerregistry import AddressHeader
from typing import Any, Final

from smtpgate.core.address import AddressError, parse_mailbox
from smtpgate.core.message.body import pieces_of
from smtpgate.core.message.reading import read_message
from smtpgate.core.reply import Reject
from tests.support import from_corpus
from tests.support.cases import CASES
from tests.support.daemons import missing, need
from tests.support.gate import ROOT
from tests.support.npm import npm_folder

_VERSIONS: Final = {"mailparser": "3.14.2", "postal-mime": "4.0.0"}
_FOLDER: Final = ROOT / "tests/integration"
_TIMEOUT_S: Final = 120
# Where readers that follow RFC 5322 without its §4 give up, and find a mailbox less, or none:
# at square brackets outside quotes, and Python's at a full stop before an angle bracket too.
_BRACKETS: Final = re.compile(r"[\[\]]")
_BRACKETS_OR_STOP: Final = re.compile(
    r"\.[ \t]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[ \t]*)*<|[\[\]]"
)

Addresses = tuple[frozenset[str], frozenset[str]]
"""Those of From and those of Sender."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The octets that leave the gate, and the mailboxes that it read in From and Sender."""

    octets: bytes
    addresses: Addresses


def accepted(*, values: int, blocks: int) -> Iterator[Accepted]:
    """The messages of the corpora that the gate accepts, and those of real programs."""
    for file in sorted((CASES / "messages").glob("*.eml")):
        yield from read_by_gate(file.read_bytes())
    for value in (*from_corpus.values(values), *from_corpus.soup(values)):
        yield from read_by_gate(f"From: {value}\r\n\r\nx\r\n".encode())
    for octets in from_corpus.blocks(blocks):
        yield from read_by_gate(octets)


def read_by_gate(octets: bytes) -> Iterator[Accepted]:
    """The message with the gate's reading, when the gate accepts it."""
    try:
        read = read_message(octets, smtputf8=True)
    except Reject:
        return
    senders = () if read.sender is None else (read.sender,)
    ours = [frozenset(str(one.mailbox) for one in group) for group in (read.authors, senders)]
    yield Accepted(
        b"".join([*read.block.raw_parts, b"\r\n", *pieces_of(read.body)]), (ours[0], ours[1])
    )


def _comparable(found: Iterable[str | None]) -> frozenset[str]:
    """The addresses in the gate's spelling, less what is none at all."""
    return frozenset(_spelled(text) for text in found if text is not None and "@" in text)


def _spelled(text: str) -> str:
    try:  # Python has a surrogate for each octet beyond ASCII
        return str(parse_mailbox(text.encode("utf-8", "surrogateescape").decode()))
    except AddressError:
        return f"unreadable: {text}"


def differences(
    messages: Sequence[Accepted], found: Sequence[Addresses]
) -> list[tuple[bytes, Addresses, Addresses]]:
    """The messages that a reader reads as from another author: octets, ours, theirs."""
    rows = zip(messages, found, strict=True)
    return [
        (one.octets, one.addresses, theirs) for one, theirs in rows if one.addresses != theirs
    ]


# -- Python's two ------------------------------------------------------------------------------


def _by_utils(octets: bytes) -> Addresses:
    fields = list(message_from_bytes(octets).raw_items())
    found = []
    for wanted in ("from", "sender"):
        values = [_unfolded(value) for name, value in fields if name.lower() == wanted]
        lenient = _comparable(address for _, address in _getaddresses(values, strict=False))
        strict = _comparable(address for _, address in _getaddresses(values, strict=True))
        found.append(lenient | strict)  # the strict one reads nothing where it is in doubt
    return found[0], found[1]


def _getaddresses(values: list[str], *, strict: bool) -> list[tuple[str, str]]:
    """Python's reader; later versions have a strict one beside the old one (CVE-2023-27043)."""
    known = inspect.signature(email.utils.getaddresses).parameters
    options: dict[str, Any] = {"strict": strict} if "strict" in known else {}
    return email.utils.getaddresses(values, **options)


def _unfolded(value: object) -> str:
    return str(value).replace("\r\n", "")


def _by_registry(octets: bytes) -> Addresses:
    message = message_from_bytes(octets, policy=email.policy.SMTP)
    from_, sender = (_registered(message.get_all(name, [])) for name in ("From", "Sender"))
    return from_, sender


def _registered(fields: Iterable[object]) -> frozenset[str]:
    found: list[str] = []
    for field in fields:
        assert isinstance(field, AddressHeader)
        found += [address.addr_spec for address in field.addresses]
    return _comparable(found)


def python_readers() -> Mapping[str, Callable[[Accepted], Addresses]]:
    """By name, what reads one message."""
    return {
        "email.utils": lambda one: _by_utils(one.octets),
        "email.headerregistry": _by_registry_unless_it_gives_up,
    }


def _by_registry_unless_it_gives_up(one: Accepted) -> Addresses:
    try:
        found = _by_registry(one.octets)
    except (TypeError, IndexError, AttributeError):  # it has bugs of its own
        return one.addresses
    return _unless_it_gives_up(one, found, _BRACKETS_OR_STOP)


def _unless_it_gives_up(one: Accepted, found: Addresses, where: re.Pattern[str]) -> Addresses:
    """The found mailboxes, or the gate's: a reader that gives up names no other author."""
    text = one.octets.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    is_fewer = all(theirs <= ours for theirs, ours in zip(found, one.addresses, strict=True))
    return one.addresses if is_fewer and where.search(text) else found


# -- programs ----------------------------------------------------------------------------------


def node_readers(messages: Sequence[Accepted]) -> dict[str, list[Addresses]]:
    """The readings of npm's mailparser (nodemailer's reader of addresses) and postal-mime."""
    folder = npm_folder("node-readers", _VERSIONS)
    return _run([need("node", "nodejs"), _FOLDER / "read.mjs", folder], messages)


def perl_readers(messages: Sequence[Accepted]) -> dict[str, list[Addresses]]:
    """The readings of Perl's Mail::Address, and of Email::Address::XS (Dovecot's reader)."""
    perl = need("perl", "perl")
    for package, module in (
        ("libmailtools-perl", "Mail::Address"),
        ("libemail-address-xs-perl", "Email::Address::XS"),
    ):
        probe = subprocess.run([perl, f"-M{module}", "-e1"], capture_output=True, check=False)
        if probe.returncode != 0:
            missing(f"Perl's {module} is not installed (apt-get install {package})")
    found = _run([perl, _FOLDER / "read.pl"], messages)
    rows = zip(messages, found["Dovecot"], strict=True)
    found["Dovecot"] = [_unless_it_gives_up(one, theirs, _BRACKETS) for one, theirs in rows]
    return found


def _run(command: list[object], messages: Sequence[Accepted]) -> dict[str, list[Addresses]]:
    given = b"".join(base64.b64encode(one.octets) + b"\n" for one in messages)
    done = subprocess.run(
        [str(word) for word in command],
        input=given,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found: dict[str, list[Addresses]] = {}
    for line in done.stdout.splitlines():
        for reader, addresses in json.loads(line).items():
            row = (_comparable(addresses["from"]), _comparable(addresses["sender"]))
            found.setdefault(reader, []).append(row)
    return found
