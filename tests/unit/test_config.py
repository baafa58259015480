import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from smtpgate.config import Config, ConfigError, load_config
from smtpgate.config.issuers import IssuerConfig, LoginConfig
from smtpgate.config.routes import RouteConfig
from smtpgate.config.sections import DirectoryConfig, HttpConfig, ListenerConfig
from smtpgate.config.toml import Table
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.config.values import share_an_address
from smtpgate.core.secret import Secret
from tests.support.cases import CASES
from tests.support.rows import rows

BAD: Final = sorted(path.parent for path in (CASES / "config_bad").glob("*/smtpgate.toml"))
SAMPLE: Final = CASES.parents[1] / "config/smtpgate.toml"
MINIMAL: Final = """\
[listener.submission]
port = 587
tls = "none"
allow_plaintext_auth = true
[upstream.default]
host = "127.0.0.1"
tls = "off"
[directory]
apply = "."
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "smtpgate.toml"
    path.write_text(text)
    return path


def helo_of(config: Config) -> str:
    return config.with_helo(config.upstreams[0]).helo


def test_a_key_and_a_credential_may_stand_above_those_that_they_replace(tmp_path: Path) -> None:
    lines = "\n".join("A" * 40 + end for end in "xy")
    for name in ("key", "credential"):
        (tmp_path / name).write_text(f"{lines}\n")
        (tmp_path / name).chmod(0o600)
    feedback = '[feedback]\nkey_file = "key"\ncredential_file = "credential"\n'
    config = load_config(written(tmp_path, MINIMAL + feedback))
    assert config.feedback.key_file is not None
    assert config.feedback.key_file.value == lines
    assert [one[-1:] for one in config.feedback.credentials] == [b"x", b"y"]


@rows("address,warnings", [("127.0.0.1", 0), ("::1", 0), ("0.0.0.0", 1), ("192.0.2.1", 1)])
def test_a_credential_that_is_sent_over_a_network_in_clear_text_is_a_warning(
    tmp_path: Path, address: str, warnings: int
) -> None:
    (tmp_path / "credential").write_text("0123456789" * 3)
    (tmp_path / "credential").chmod(0o600)
    sections = f'[feedback]\ncredential_file = "credential"\n[http]\naddress = "{address}"\n'
    found = load_config(written(tmp_path, MINIMAL + sections)).warnings
    assert [one.partition(":")[0] for one in found] == ["feedback.credential_file"] * warnings


@rows(
    "section,wrong",
    [
        ("limits", 'max_wait_s = "long"'),
        ("ledger", "lease_s = []"),
        ("feedback", "enabled = 1"),
    ],
)
def test_a_bad_configuration_leaves_the_defaults_of_later_ones_as_they_are(
    tmp_path: Path, section: str, wrong: str
) -> None:
    before = load_config(written(tmp_path, MINIMAL))
    with pytest.raises(ConfigError):
        load_config(written(tmp_path, f"{MINIMAL}[{section}]\ntypo = 1\n{wrong}\n"))
    assert load_config(written(tmp_path, MINIMAL)) == before


@rows("folder", BAD, ids=[folder.name for folder in BAD])
def test_a_bad_configuration_is_refused_with_every_problem(folder: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(folder / "smtpgate.toml")
    output = str(refusal.value).replace(f"{folder}/", "").replace(str(folder), ".")
    assert output + "\n" == (folder / "expected-error").read_text()
    assert "sesame" not in output


def test_there_are_bad_configurations_of_every_kind() -> None:
    assert len(BAD) >= 25


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(tmp_path / "nothing.toml")
    wanted = f"{tmp_path}/nothing.toml: cannot be read: no such file or directory"
    assert str(refusal.value) == wanted


def test_paths_are_relative_to_the_folder_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "elsewhere").mkdir()
    text = MINIMAL.replace('"."', '"directory"') + '[log]\ntarget = "gate.log"\n'
    path = written(tmp_path, text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config(Path(os.path.relpath(path)))
    assert config.directory.apply is not None
    assert config.directory.apply.resolve() == tmp_path / "directory"
    assert isinstance(config.log.target, Path)
    assert config.log.target.resolve() == tmp_path / "gate.log"


def test_an_absolute_path_stays_as_it_is(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL.replace('"."', f'"{tmp_path}"')))
    assert config.directory.apply == tmp_path


def test_the_password_comes_from_its_file_and_does_not_print(tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("open sesame\n")
    password_file.chmod(0o600)
    login = 'tls = "off"\nusername = "gate"\npassword_file = "password"\n'
    config = load_config(written(tmp_path, MINIMAL.replace('tls = "off"\n', login)))
    assert config.upstreams[0].password == Secret("open sesame")
    assert "sesame" not in repr(config)
    assert config.warnings == ()


def test_a_secret_that_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("open sesame\n")
    password_file.chmod(0o644)
    login = 'tls = "off"\nusername = "gate"\npassword_file = "password"\n'
    config = load_config(written(tmp_path, MINIMAL.replace('tls = "off"\n', login)))
    wanted = f"{password_file} can be read by every user of this machine (chmod 600 it)"
    assert config.warnings == (wanted,)


def test_a_tls_key_that_everybody_can_read_is_a_warning_reported_once(tmp_path: Path) -> None:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("PEM\n")
        (tmp_path / name).chmod(0o644)
    files = 'cert_file = "tls.crt"\nkey_file = "tls.key"\n'
    tls = f"[listener.a]\nport = 1\n{files}[listener.b]\nport = 2\n{files}"
    config = load_config(written(tmp_path, tls + MINIMAL))
    wanted = f"{tmp_path / 'tls.key'} can be read by every user of this machine (chmod 600 it)"
    assert config.warnings == (wanted,)


def test_reports_about_keys_that_nothing_can_mail_are_a_warning(tmp_path: Path) -> None:
    text = '[watch]\noperator = "postmaster@example.com"\n[outbox]\nenabled = false\n'
    config = load_config(written(tmp_path, text + MINIMAL))
    wanted = "watch.operator: nothing is mailed without journal.enabled and outbox.enabled"
    assert config.warnings == (wanted,)


def test_mail_in_clear_text_to_another_machine_is_a_warning(tmp_path: Path) -> None:
    text = MINIMAL.replace('host = "127.0.0.1"', 'host = "mail.example.net"')
    config = load_config(written(tmp_path, text))
    wanted = 'upstream.default.tls: "off" sends all mail to mail.example.net in clear text'
    assert config.warnings == (wanted,)


@pytest.mark.parametrize(
    ("url", "warnings"),
    [
        ("redis://127.0.0.1:6379/0", 0),
        ("redis://redis.example.com:6379/0", 1),
        ("rediss://redis.example.com:6379/0", 0),
        (
            "rediss://redis.example.com:6379/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
            0,
        ),
        ("rediss://redis.example.com:6379/0?ssl_cert_reqs=none", 1),
        ("rediss://redis.example.com:6379/0?ssl_cert_reqs=optional", 1),
        ("rediss://redis.example.com:6379/0?ssl_check_hostname=False", 1),
        ("rediss://127.0.0.1:6379/0?ssl_cert_reqs=none", 0),
    ],
)
def test_a_ledger_that_any_machine_could_answer_for_is_a_warning(
    tmp_path: Path, url: str, warnings: int
) -> None:
    text = f'{MINIMAL}[ledger]\nkind = "redis"\nurl = "{url}"\n'
    found = load_config(written(tmp_path, text)).warnings
    assert [warning.partition(":")[0] for warning in found] == ["ledger"] * warnings


def test_files_need_not_exist_before_they_are_made(tmp_path: Path) -> None:
    login = 'username = "gate"\npassword_file = "password"\nca_file = "ca.pem"\n'
    text = (
        '[listener.a]\nport = 1\ncert_file = "tls.crt"\nkey_file = "tls.key"\n'
        f'[upstream.default]\nhost = "mail.example.net"\n{login}[directory]\napply = "none"\n'
    )
    config = load_config(written(tmp_path, text), require_files=False)
    assert config.listeners[0].cert_file == tmp_path / "tls.crt"
    assert config.upstreams[0].ca_file == tmp_path / "ca.pem"


def test_further_certificates_may_stand_in_tables_or_alone(tmp_path: Path) -> None:
    for name in ("one.crt", "one.key", "two.crt", "two.key"):
        (tmp_path / name).write_text("PEM\n")
        (tmp_path / name).chmod(0o600)
    files = "\n".join(
        f'[[listener.a.certificates]]\ncert_file = "{one}.crt"\nkey_file = "{one}.key"'
        for one in ("one", "two")
    )
    text = MINIMAL + f"[listener.a]\nport = 1\n{files}\n"
    (config,) = (one for one in load_config(written(tmp_path, text)).listeners if one.port == 1)
    assert [one.cert_file.name for one in config.certificates] == ["one.crt", "two.crt"]
    half = text.replace("port = 1", 'port = 1\ncert_file = "one.crt"')
    with pytest.raises(ConfigError, match=r'a\.key_file: is missing; tls = "starttls" needs'):
        load_config(written(tmp_path, half))
    off = text.replace("port = 1", 'port = 1\ntls = "none"\nallow_plaintext_auth = true')
    with pytest.raises(ConfigError, match=r"a\.certificates: has no effect with tls"):
        load_config(written(tmp_path, off))


def test_the_upstream_is_greeted_with_the_name_of_the_gate(tmp_path: Path) -> None:
    named = load_config(written(tmp_path, '[gate]\nhostname = "Gate.Example.COM"\n' + MINIMAL))
    assert helo_of(named) == "gate.example.com"
    unnamed = load_config(written(tmp_path, MINIMAL))
    assert helo_of(unnamed)
    text = MINIMAL.replace('tls = "off"\n', 'tls = "off"\nhelo = "relay.example.com"\n')
    assert helo_of(load_config(written(tmp_path, text))) == "relay.example.com"


def test_a_configuration_can_be_made_in_code(tmp_path: Path) -> None:
    config = Config(
        listener=(ListenerConfig(name="a", port=0, tls="none", allow_plaintext_auth=True),),
        upstream=(
            UpstreamConfig(
                name="sink",
                host="127.0.0.1",
                port=2525,
                tls="off",
                username="gate",
                password=Secret("open sesame"),
            ),
        ),
        directory=DirectoryConfig(apply=tmp_path),
        http=HttpConfig(port=0),
    )
    assert config.listeners[0].name == "a"
    assert config.upstreams[0].password == Secret("open sesame")


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError):
        HttpConfig().port = 1


@rows(
    "one, other, together",
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("192.0.2.1", "0.0.0.0", True),
        ("::", "::1", True),
        ("0.0.0.0", "localhost", True),
        ("0.0.0.0", "::", False),
        ("::", "127.0.0.1", False),
        ("::", "localhost", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_all_addresses_of_a_family_include_each_of_them(
    one: str, other: str, together: bool
) -> None:
    assert share_an_address(one, other) is share_an_address(other, one) is together


def test_port_0_may_be_asked_for_twice(tmp_path: Path) -> None:
    text = MINIMAL.replace("587", "0")
    other = text[: text.index("[upstream")].replace("submission", "other")
    config = load_config(written(tmp_path, other + text + "[http]\nport = 0\n"))
    assert len(config.listeners) == 2


def test_a_listener_that_is_off_takes_no_address(tmp_path: Path) -> None:
    text = MINIMAL.replace("587", "9587") + "[http]\nenabled = false\n"
    assert not load_config(written(tmp_path, text)).http.enabled


def test_a_model_already_made_can_be_part_of_another(tmp_path: Path) -> None:
    upstream = UpstreamConfig(name="sink", host="127.0.0.1", tls="off")
    listener = {"name": "a", "port": 0, "tls": "none", "allow_plaintext_auth": True}
    config = Config.model_validate(
        {"listener": [listener], "upstream": [upstream], "directory": {"apply": str(tmp_path)}}
    )
    assert config.upstreams == (upstream,)
    assert config.directory.apply == tmp_path


def test_two_loopback_addresses_are_two_places(tmp_path: Path) -> None:
    text = MINIMAL.replace("587", "25").replace('host = "127.0.0.1"', 'host = "127.0.0.2"')
    assert load_config(written(tmp_path, text)).upstreams[0].port == 25


@pytest.mark.parametrize("tls", ["off", "opportunistic"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_password_for_this_machine_needs_no_verified_tls(
    tmp_path: Path, host: str, tls: str
) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "password").chmod(0o600)
    login = f'tls = "{tls}"\nusername = "gate"\npassword_file = "password"'
    text = MINIMAL.replace('tls = "off"', login).replace(
        'host = "127.0.0.1"', f'host = "{host}"'
    )
    assert load_config(written(tmp_path, text)).upstreams[0].tls == tls


# -- the sample --------------------------------------------------------------------------------


def sections() -> dict[str, type[Table]]:
    """The sections of the configuration, each with its model."""
    found = {
        field.alias or name: next(_models_in(field.annotation))
        for name, field in Config.model_fields.items()
    }
    inner = {
        f"{name}.{key}": table
        for name, model in found.items()
        for key, field in model.model_fields.items()
        if get_origin(field.annotation) is not tuple
        for table in _models_in(field.annotation)
    }
    return found | inner


def _models_in(annotation: object) -> Iterator[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


SECTIONS: Final = sections()
KEYS: Final = [
    (section, key)
    for section, model in SECTIONS.items()
    for key in model.known_keys()
    if f"{section}.{key}" not in SECTIONS
]


def sample_section(name: str) -> list[str]:
    """The lines of the first section of that kind."""
    lines = SAMPLE.read_text().splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith(("[", "#["))]
    section, dot, inner = name.partition(".")
    head = rf"#?\[{section}\.[a-z]+\.{inner}\]" if dot else rf"#?\[\[?{name}(\.[a-z]+)?\]\]?"
    start = next(i for i in heads if re.fullmatch(head, lines[i]))
    return lines[start : min([i for i in heads if i > start], default=len(lines))]


@rows("section, key", KEYS, ids=[".".join(names) for names in KEYS])
def test_the_sample_explains_every_key(section: str, key: str) -> None:
    lines = sample_section(section)
    at = next(i for i, line in enumerate(lines) if re.fullmatch(rf"#?{key} = .+", line))
    assert lines[at - 1].startswith("# "), f"{section}.{key} has no comment"


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    (tmp_path / "directory").mkdir()
    for name in (
        "api.key",
        "tls.crt",
        "tls.key",
        "upstream.password",
        "upstream.key",
        "oauth.secret",
        "oauth.key",
        "oauth.refresh",
        "feedback.key",
        "feedback.credential",
        "feedback.crt",
        "feedback-tls.key",
        "directory.url",
        "redis.url",
        "journal.url",
        "sns.key",
        "other.crt",
        "other.key",
    ):
        (tmp_path / "private" / name).write_text("content\n")
        (tmp_path / "private" / name).chmod(0o600)
    (tmp_path / "private" / "feedback.credential").write_text(f"{'new-' * 8}\n{'old-' * 8}\n")
    for name in (
        "upstream-ca.pem",
        "ca.pem",
        "sns.pem",
        "api.pem",
        "oauth.crt",
        "oauth-ca.pem",
        "cluster.jwks",
        "issuer-ca.pem",
        "clients-ca.pem",
        "upstream.crt",
    ):
        (tmp_path / name).write_text("PEM\n")
    shutil.copy(SAMPLE, tmp_path)
    return tmp_path / "smtpgate.toml"


def test_the_sample_loads_as_it_is_shipped(sample: Path) -> None:
    config = load_config(sample)
    assert [(listener.port, listener.tls) for listener in config.listeners] == [
        (587, "starttls"),
        (465, "implicit"),
    ]
    assert (config.http.address, config.http.port) == ("127.0.0.1", 9587)
    assert config.warnings == ()


def test_the_sample_loads_with_every_key_set(sample: Path) -> None:
    text = re.sub(r"(?m)^#(?=[a-z[])", "", sample.read_text())
    text = text.replace('tls = "off"', 'tls = "required"')
    # Beside url_file they would be one too many.
    text = re.sub(r'(?m)^(?:path = "state/|url = ).*\n', "", text)
    text = text.replace('kind = "sqlite"', 'kind = "redis"')
    # The secret stands beside a private key, and the password beside tokens.
    text = re.sub(
        r"(?m)^(?:client_secret_file|password_file|refresh_token_file|jwks_file) = .*\n",
        "",
        text,
    )
    text = text.replace('auth = "plain"', "").replace('"client-credentials"', '"jwt-bearer"')
    text += '[[route]]\nupstreams = ["default"]\n'
    config = load_config(written(sample.parent, text))
    assert config.gate.hostname == "gate.example.com"
    assert config.upstreams[0].username == "gate"
    assert config.upstreams[0].oauth is not None
    assert config.ledger.server_url == Secret("content")


# Where the sample shows what most will want, and says beside it what the default is.
NOT_THE_DEFAULT: Final = {
    *("address", "port", "host", "tls", "cert_file", "key_file", "certificates", "apply"),
    "upstreams",
    *("issuer", "audience", "jwks_url", "claims", "access_key"),
}


def test_the_sample_shows_the_defaults(sample: Path) -> None:
    # A section that is off has all of its lines behind a mark.
    api = "\n".join(
        line.removeprefix("#") for line in sample_section("api") if "# " not in line
    )
    text = sample.read_text().replace("#[api.ses]", f"{api}\n#[api.ses]")
    config = load_config(written(sample.parent, text))
    firsts: dict[str, BaseModel] = {
        "listener": config.listeners[0],
        "api": config.apis[0],
        "upstream": config.upstreams[0],
        "route": RouteConfig(upstreams=("default",)),
        "issuer": IssuerConfig(
            name="a",
            issuer="https://issuer.example.com",
            audience="b",
            jwks_url="https://issuer.example.com/keys",
        ),
        "login": LoginConfig(
            issuer="a", claims={"sub": "c"}, access_key="AKIAIOSFODNN7EXAMPLE"
        ),
    }
    for section, model in SECTIONS.items():
        if "." in section:  # it is off
            continue
        shown = firsts.get(section) or getattr(config, section)
        for name, field in model.model_fields.items():
            if name not in NOT_THE_DEFAULT | {"name"}:
                default = field.default
                wanted = sample.parent / default if isinstance(default, Path) else default
                assert getattr(shown, name) == wanted, f"{section}.{name}"
