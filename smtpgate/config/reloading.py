"""The keys that a reload changes in a running gate, and those that need a restart.

Each key is in one of the two tables, by its section. A restart is needed where a key decides
about a store, a port, a process, or work that a host has once.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from smtpgate.config.file import Config
from smtpgate.config.toml import Table

ALL: Final = "*"
"""Stands for all keys of a section."""

BY_RELOAD: Final[Mapping[str, str]] = {
    "gate": (
        "max_message_octets max_recipients drain_s max_inflight_octets max_spooled_octets "
        "max_inflight_share reserved_inflight_octets received_client"
    ),
    "listener": (
        "tls cert_file key_file certificates min_tls allow_plaintext_auth proxy_from "
        "max_connections max_connections_per_client handshake_timeout_s auth_timeout_s "
        "command_timeout_s reply_timeout_s data_timeout_s max_octets_before_auth "
        "max_unread_octets max_auth_failures auth_failure_delay_s early_talkers max_errors "
        "max_junk_commands max_excess_recipients client_ca_file client_certificate"
    ),
    "upstream": ALL,
    "route": ALL,
    "issuer": ALL,
    "login": ALL,
    "directory": "apply prune",
    "simulator": ALL,
    "authorization": ALL,
    "policy": ALL,
    "limits": ALL,
    "signing": ALL,
    "message": ALL,
    "bans": ALL,
}

BY_RESTART: Final[Mapping[str, str]] = {
    "gate": (
        "hostname region partition workers worker_timeout_s reserved_descriptors state_dir "
        "control_socket"
    ),
    "listener": "address port",
    "api": ALL,
    "directory": (
        "url url_file master_key_file cache_octets max_stale_s verification_label recheck"
    ),
    "dns": ALL,
    "ledger": ALL,
    "journal": ALL,
    "outbox": ALL,
    "feedback": ALL,
    "reputation": ALL,
    "watch": ALL,
    "notifications": ALL,
    "metrics": ALL,
    "http": ALL,
    "log": ALL,
}

# Kinds of sections with names, and those whose names a reload may add and remove.
_NAMED: Final = frozenset({"listener", "api", "upstream", "issuer"})
_NAMES_BY_RELOAD: Final = frozenset({"upstream", "issuer"})


def is_by_reload(section: str, key: str) -> bool:
    """True if a reload changes the key, false if that needs a restart."""
    keys = BY_RELOAD.get(section, "")
    return keys == ALL or key in keys.split()


# Properties that a copy has as they were computed for the original.
_COMPUTED: Final = tuple(
    name for name, value in vars(Config).items() if isinstance(value, cached_property)
)


class ConfigChange(NamedTuple):
    """A newer configuration, beside the one in use.

    ``config`` is the one in use with all that a reload can change. ``reloaded`` are the keys
    that it changes, ``restart`` those that stay as they are until a restart.
    """

    config: Config
    reloaded: tuple[str, ...]
    restart: tuple[str, ...]


def change_of(old: Config, new: Config) -> ConfigChange:
    """The differences of the two, and what a reload makes of them.

    Raises ValueError if what a reload can change does not go together with what it cannot.
    """
    keys = _Keys()
    update: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        section = field.alias or name
        before, after = getattr(old, name), getattr(new, name)
        if not isinstance(before, tuple):
            update[name] = _merged(section, section, before, after, keys)
        elif section in _NAMED:
            update[name] = tuple(_named(section, before, after, keys))
        elif before != after:  # their order counts, as that of [[route]]
            by_reload = BY_RELOAD.get(section) == ALL
            keys.add(section, by_reload=by_reload)
            update[name] = after if by_reload else before
        else:
            update[name] = before
    config = new.model_copy(update=update)
    for name in _COMPUTED:
        _ = config.__dict__.pop(name, None)
    found = [text for _, text in config.contradictions()]
    if found:
        names = ", ".join(keys.restart)
        raise ValueError(
            f"{names}: what needs a restart does not go together with the other changes "
            f"({'; '.join(found)}); restart the gate"
        )
    return ConfigChange(config, tuple(keys.reloaded), tuple(keys.restart))


class _Keys:
    """The keys that differ."""

    def __init__(self) -> None:
        self.reloaded: list[str] = []
        self.restart: list[str] = []

    def add(self, name: str, *, by_reload: bool) -> None:
        (self.reloaded if by_reload else self.restart).append(name)


def _named(
    section: str, before: tuple[Any, ...], after: tuple[Any, ...], keys: _Keys
) -> Iterator[Table]:
    """The sections of one kind."""
    olds, news = ({one.name: one for one in ones} for ones in (before, after))
    by_reload = section in _NAMES_BY_RELOAD
    for name in olds | news:
        label = f"{section}.{name}"
        if name in olds and name in news:
            yield _merged(section, label, olds[name], news[name], keys)
            continue
        keys.add(label, by_reload=by_reload)
        if (name in news) == by_reload:
            yield (news if by_reload else olds)[name]


def _merged(section: str, label: str, before: Table, after: Table, keys: _Keys) -> Table:
    """A section with the values of ``after`` where a reload can change them."""
    update = {}
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        key = before.written_as.get(name, field.alias or name) or name
        by_reload = is_by_reload(section, key)
        keys.add(f"{label}.{key}", by_reload=by_reload)
        if by_reload:
            update[name] = new
    return before.model_copy(update=update)
