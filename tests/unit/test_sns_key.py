import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.notifications import open_sns_face

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)


def config(folder: Path, **notifications: Any) -> Config:  # noqa: ANN401 - by the key
    return Config.model_validate(
        {
            "gate": {"hostname": "gate.example.com", "state_dir": folder},
            "listener": {"a": {"port": 0, "tls": "none", "allow_plaintext_auth": True}},
            "upstream": {"u": {"host": "127.0.0.1", "port": 25, "tls": "off"}},
            "notifications": {"base_url": "https://gate.example.com/", **notifications},
        }
    )


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = open_sns_face(config(tmp_path), NOW)
    assert first is not None
    assert first.base_url == "https://gate.example.com"
    assert stat.S_IMODE((tmp_path / "sns.key").stat().st_mode) == 0o600
    second = open_sns_face(config(tmp_path), NOW)
    assert second is not None
    assert second.signer.certificate_name == first.signer.certificate_name


def test_without_a_public_url_there_is_no_key(tmp_path: Path) -> None:
    assert open_sns_face(config(tmp_path, base_url=None), NOW) is None
    assert not [*tmp_path.iterdir()]


def test_a_key_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    for name in ("sns.key", "sns.pem"):
        (tmp_path / name).write_text("no key")
    with pytest.raises(OpenError, match=r"sns\.key.*not a PEM file"):
        open_sns_face(config(tmp_path), NOW)


def test_the_urls_of_an_envelope_begin_with_the_public_one(tmp_path: Path) -> None:
    face = open_sns_face(config(tmp_path), NOW)
    assert face is not None
    url = face.confirm_url("arn:aws:sns:us-east-1:888888888888:a", "00ff")
    assert url == (
        "https://gate.example.com/?Action=ConfirmSubscription&TopicArn="
        "arn%3Aaws%3Asns%3Aus-east-1%3A888888888888%3Aa&Token=00ff"
    )
