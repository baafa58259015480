"""The types of the values of configuration keys."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, ValidationInfo

from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import FileReading, as_path, problems, read_secret, read_secrets
from smtpgate.core.account import MAX_RATE, UNLIMITED
from smtpgate.core.address import AddressError, parse_domain, parse_forward_path
from smtpgate.core.naming import network
from smtpgate.core.proof.nameserver import Nameserver as NameserverAddress
from smtpgate.core.proof.nameserver import parse_nameserver
from smtpgate.core.proof.ownership import parse_label
from smtpgate.core.secret import Secret

_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_LOCALHOST: Final = {"localhost", "127.0.0.1", "::1"}
_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
# Keys without a section that an error names.
_LISTED: Final = 5
_WELL_KNOWN_TARGETS: Final = ("stderr", "stdout")


def _spelled(pattern: str, what: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f"must be {what}")
        return value

    return AfterValidator(check)


def _mail_address(value: str) -> str:
    try:
        return str(parse_forward_path(f"<{value}>"))
    except AddressError as error:
        raise ValueError(f"must be a mail address: {error}") from None


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _domain(value: str) -> str:
    try:
        return parse_domain(value)
    except AddressError as error:
        raise ValueError(f"must be a host name: {error}") from None


def _host(value: str) -> str:
    return value if _is_address(value) else _domain(value)


def _bindable(value: str) -> str:
    if value != "localhost" and not _is_address(value):
        raise ValueError(
            "must be an IP address of this machine; 0.0.0.0 and :: mean all of them"
        )
    return value


def _or_unlimited(is_right: Callable[[float], bool], what: str) -> AfterValidator:
    def check(value: float) -> float:
        if value != UNLIMITED and not is_right(value):
            raise ValueError(f"must be {what}, or -1 (unlimited), not {value}")
        return value

    return AfterValidator(check)


def _secret(value: object, info: ValidationInfo) -> object:
    """The content of the file that the value names."""
    return _content(value, info, read_secret)


def _secrets(value: object, info: ValidationInfo) -> object:
    """The lines of the file that the value names."""
    return _content(value, info, read_secrets)


def _content(
    value: object, info: ValidationInfo, read: Callable[[Path, list[str]], Secret]
) -> object:
    if value is None or isinstance(value, Secret):
        return value
    path, reading = as_path(value, info), info.context
    if not isinstance(path, Path) or not isinstance(reading, FileReading):
        raise ValueError("must be the path of a file that holds the secret")  # noqa: TRY004
    if not reading.require_files and not path.exists():
        return Secret("")
    return read(path, reading.warnings)


def _log_target(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path):
        raise ValueError("must be stderr, stdout or the path of a file")  # noqa: TRY004
    return value if value in _WELL_KNOWN_TARGETS else as_path(value, info)


def _redis_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_right = bool(parts.scheme == "unix" or parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    else:
        is_right = is_right and parts.scheme in _REDIS_SCHEMES
        if parts.password or "password=" in parts.query:
            raise ValueError(
                "must not contain a password; put the URL into a file and set `url_file'"
            )
    if not is_right:
        raise ValueError("must be a URL such as rediss://redis.example.com:6379/0")
    return value


def _from_sections(value: object, info: ValidationInfo) -> object:
    found = _from_optional_sections(value, info)
    if not found:
        raise problems([((), f"is missing; a section [{_section(info)}.NAME] is needed")])
    return found


def _from_optional_sections(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, Mapping):
        return tuple(value) if isinstance(value, list) else value
    found: list[Problem] = []
    loose = [str(name) for name, table in value.items() if not isinstance(table, Mapping)]
    if loose:
        keys = ", ".join(loose[:_LISTED]) + (", ..." if len(loose) > _LISTED else "")
        text = f"its keys must be in a named section, [{_section(info)}.NAME]: {keys}"
        found.append(((), text))
    for name, table in value.items():
        if isinstance(table, Mapping) and "name" in table:
            found.append(((name, "name"), "is not a known key; the name is the section's"))
    if found:
        raise problems(found)
    return tuple({"name": name, **table} for name, table in value.items())


def _section(info: ValidationInfo) -> str:
    return (info.field_name or "").removesuffix("s")  # listeners, [listener.NAME]


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a string such as '192.0.2.0/24'")  # noqa: TRY004 - for Pydantic
    return network(value)


def _moment(value: object) -> object:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date and time with its zone, such as 2027-01-01T00:00:00Z")
    return value


def _nameserver(value: object) -> object:
    if isinstance(value, NameserverAddress):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a string such as '192.0.2.1'")  # noqa: TRY004 - for Pydantic
    return parse_nameserver(value)


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or "@" in value:
        raise ValueError("must be a URL such as https://gate.example.com")
    return value.rstrip("/")


def _database_url(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql://")):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if re.search("//[^/@]*:[^/@]*@", value):
        raise ValueError(
            "must not contain a password; put the URL into a file and set `url_file'"
        )
    return value


def is_same_place(address: str, host: str) -> bool:
    """True if a connection to the host reaches a socket on the address."""
    if address in _EVERYWHERE:
        return is_loopback(host)
    named = "localhost" in (address, host)
    return address == host or (named and {address, host} <= _LOCALHOST)


def share_an_address(one: str, other: str) -> bool:
    """True if two sockets cannot listen on them with one port; "::" is IPv6 alone."""
    is_one_family = (":" in one) == (":" in other)
    return one == other or (is_one_family and not _EVERYWHERE.isdisjoint({one, other}))


def is_loopback(host: str) -> bool:
    """True if a connection to the host stays on this machine."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


# ``[listener.NAME]`` sections become a tuple of models with their names; there must be one,
# unless they are optional.
from_sections: Final = BeforeValidator(_from_sections)
from_optional_sections: Final = BeforeValidator(_from_optional_sections)

Domain = Annotated[str, AfterValidator(_domain)]
Host = Annotated[str, AfterValidator(_host)]
Address = Annotated[str, AfterValidator(_bindable)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Name = Annotated[str, _spelled("[A-Za-z0-9_-]{1,64}", "named with letters, digits, - and _")]
AccountId = Annotated[str, _spelled("[0-9]{12}", "the 12 digits of an account's id")]
Region = Annotated[str, _spelled("[a-z0-9-]{1,32}", "a region's name, such as us-east-1")]
Nameserver = Annotated[InstanceOf[NameserverAddress], BeforeValidator(_nameserver)]
Label = Annotated[str, AfterValidator(parse_label)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
Quota = Annotated[int, _or_unlimited(lambda value: value >= 0, "0 or more")]
Rate = Annotated[
    float,
    _or_unlimited(lambda value: 0 < value <= MAX_RATE, f"more than 0, at most {MAX_RATE}"),
]
BaseUrl = Annotated[
    str,
    _spelled("https?://[!-~]{1,500}", "a URL such as https://gate.example.com"),
    AfterValidator(_base_url),
]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
SecretFile = Annotated[InstanceOf[Secret] | None, BeforeValidator(_secret)]
SecretsFile = Annotated[InstanceOf[Secret] | None, BeforeValidator(_secrets)]
LogTarget = Annotated[Literal["stderr", "stdout"] | Path, BeforeValidator(_log_target)]
