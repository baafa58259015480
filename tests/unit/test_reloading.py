"""The keys that a reload changes, and what a newer configuration becomes."""

from pathlib import Path
from typing import Final, get_args

import pytest

from smtpgate.config import Config, load_config
from smtpgate.config.reloading import ALL, BY_RELOAD, BY_RESTART, change_of
from smtpgate.config.toml import Table
from tests.support.rows import rows

BASE: Final = """\
[gate]
hostname = "gate.example.com"
max_recipients = 50
[listener.a]
port = 1587
tls = "none"
allow_plaintext_auth = true
[upstream.one]
host = "127.0.0.1"
tls = "off"
[directory]
apply = "."
[limits]
max_wait_s = 5
"""


def loaded(folder: Path, text: str) -> Config:
    path = folder / "smtpgate.toml"
    path.write_text(text)
    return load_config(path)


def test_a_file_named_by_a_relative_path_changes_nothing_when_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload reads the file by its absolute path, also after a start with a relative one."""
    (tmp_path / "smtpgate.toml").write_text(BASE)
    monkeypatch.chdir(tmp_path)
    started = load_config(Path("smtpgate.toml"))
    assert started.file == tmp_path / "smtpgate.toml"
    change = change_of(started, load_config(started.file))
    assert (change.reloaded, change.restart) == ((), ())


def sections() -> dict[str, type[Table]]:
    def model_in(annotation: object) -> type[Table]:
        if isinstance(annotation, type) and issubclass(annotation, Table):
            return annotation
        return next(
            model_in(one)
            for one in get_args(annotation)
            if get_args(one) or (isinstance(one, type) and issubclass(one, Table))
        )

    fields = Config.model_fields.items()
    return {field.alias or name: model_in(field.annotation) for name, field in fields}


@rows("section", sorted(sections()))
def test_each_key_is_in_one_of_the_two_tables(section: str) -> None:
    """Say in ``smtpgate/config/reloading.py`` if a reload of a gate changes a new key."""
    tables = [BY_RELOAD.get(section, ""), BY_RESTART.get(section, "")]
    if ALL in tables:
        assert sorted(tables) == ["", ALL], f"[{section}] is in both tables"
        return
    listed = " ".join(tables).split()
    assert sorted(listed) == sorted(sections()[section].known_keys())


def test_the_tables_have_no_other_sections() -> None:
    assert set(BY_RELOAD) | set(BY_RESTART) == set(sections())


@rows(
    "old,new,reloaded,restart",
    [
        ("", "", (), ()),
        ("max_wait_s = 5", "max_wait_s = 6", ("limits.max_wait_s",), ()),
        ("max_recipients = 50", "max_recipients = 5", ("gate.max_recipients",), ()),
        ("port = 1587", "port = 1588", (), ("listener.a.port",)),
        ("port = 1587", "port = 1587\nmax_errors = 9", ("listener.a.max_errors",), ()),
        ('apply = "."', 'apply = "."\nrecheck = false', (), ("directory.recheck",)),
        ("[limits]", "[http]\nport = 1\n[limits]", (), ("http.port",)),
        (
            "[upstream.one]",
            '[upstream.two]\nhost = "192.0.2.1"\n[upstream.one]',
            ("upstream.two",),
            (),
        ),
        (
            "[listener.a]",
            '[listener.b]\nport = 2\ntls = "none"\nallow_plaintext_auth = true\n[listener.a]',
            (),
            ("listener.b",),
        ),
        (
            "[limits]",
            '[[route]]\nupstreams = ["one"]\n[limits]',
            ("route",),
            (),
        ),
        (
            "max_recipients = 50",
            'max_recipients = 7\nregion = "eu-west-1"',
            ("gate.max_recipients",),
            ("gate.region",),
        ),
    ],
)
def test_a_change_names_its_keys_and_keeps_what_needs_a_restart(
    tmp_path: Path, old: str, new: str, reloaded: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    before = loaded(tmp_path, BASE)
    newer = loaded(tmp_path, BASE.replace(old, new) if old else BASE)
    change = change_of(before, newer)
    assert (change.reloaded, change.restart) == (reloaded, restart)
    again = change_of(change.config, newer)
    assert again.reloaded == (), "all of it is in use"
    assert again.restart == restart, "it is reported again, until the restart"
    assert change.config.listeners[0].port == 1587
    assert [one.name for one in change.config.listeners] == ["a"]


def test_another_name_of_the_gate_waits_for_the_restart(tmp_path: Path) -> None:
    before = loaded(tmp_path, BASE)
    newer = loaded(tmp_path, BASE.replace("gate.example.com", "other.example.com"))
    assert newer.hostname == "other.example.com"
    change = change_of(before, newer)
    assert change.config.hostname == "gate.example.com"
    assert change.config.file == newer.file


def test_a_change_that_goes_only_with_one_that_needs_a_restart_is_refused(
    tmp_path: Path,
) -> None:
    ledger = BASE + "[ledger]\nlease_s = 900\n"
    before = loaded(tmp_path, ledger)
    both = ledger.replace("lease_s = 900", "lease_s = 300").replace(
        'tls = "off"', 'tls = "off"\ndeadline_s = 250'
    )
    assert change_of(before, loaded(tmp_path, both)).restart == ("ledger.lease_s",)
    shorter = loaded(tmp_path, both)
    longer = ledger.replace('tls = "off"', 'tls = "off"\ndeadline_s = 400')
    with pytest.raises(ValueError, match=r"^ledger\.lease_s: what needs a restart does not"):
        change_of(shorter, loaded(tmp_path, longer))
