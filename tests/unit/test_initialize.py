import json
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from smtpgate.config import ConfigError, load_config
from smtpgate.core.policy import lint_policy, parse_policy
from smtpgate.core.secret import smtp_password
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.documents.read import read_desired
from smtpgate.directory.sealing import MasterKeys
from smtpgate.gate.initialize import InitError, InitReport, Sample, initialize, sample_folder
from tests.support.cases import CASES
from tests.support.rows import rows
from tests.support.world import OWNER

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
POLICIES: Final = CASES.parents[1] / "config/directory/policies"
ANNOUNCED: Final = "announced.json"
KEY_ID: Final = "AKIA9999MAILER000001"
PLAIN: Final = 'tls = "none"\nallow_plaintext_auth = true\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InitReport]:
    """A configuration from nothing, once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("init") / "etc"
    return folder, initialize(folder, Sample(hostname="gate.example.com"), now=NOW)


def declared(folder: Path) -> Desired:
    """The directory after the configuration was applied."""
    config = load_config(folder / "smtpgate.toml")
    assert config.directory.apply is not None
    return read_desired(
        config.directory.apply, region=config.gate.region, partition=config.gate.partition
    )


def small(folder: Path, listener: str, upstream: str = "", accounts: str = "") -> Path:
    """A configuration of one's own."""
    (folder / "directory").mkdir(exist_ok=True)
    account = '[accounts.888888888888]\nname = "Owner"\n'
    (folder / "directory/accounts.toml").write_text(account + accounts)
    (folder / "smtpgate.toml").write_text(
        f'[listener.submission]\nport = 587\n{listener}[upstream.default]\nhost = "127.0.0.2"\n'
        f'{upstream}[directory]\napply = "directory"\n'
    )
    return folder


def test_from_nothing_it_makes_a_configuration_that_loads(
    made: tuple[Path, InitReport],
) -> None:
    folder, report = made
    assert not load_config(folder / "smtpgate.toml").warnings
    found = declared(folder)
    assert (len(found.accounts), len(found.access_keys)) == (2, 1)
    assert not found.warnings
    (identity,) = found.identities
    assert [key.selector for key in identity.dkim_keys] == ["gate1"]
    assert not report.open_problems


def test_the_password_it_tells_is_the_one_that_logs_in(
    made: tuple[Path, InitReport],
) -> None:
    folder, report = made
    (login,) = report.logins
    assert (login.owner, login.username) == ("account 999999999999, user mailer", KEY_ID)
    (key,) = declared(folder).access_keys
    assert (key.id, key.user_name) == (KEY_ID, "mailer")
    assert key.secret is not None
    assert len(key.secret.value) == 40
    assert login.password == smtp_password(key.secret, "us-east-1")
    assert login.password.value in str(report)
    assert login.password.value not in repr(report)
    assert key.secret.value not in str(report)


def test_the_master_key_it_makes_seals(made: tuple[Path, InitReport]) -> None:
    folder, report = made
    path = load_config(folder / "smtpgate.toml").directory.master_key_file
    keys = MasterKeys.parse(path.read_text())
    assert keys.ids == ("m1",)
    assert keys.open(keys.seal(b"a secret", "here"), "here") == b"a secret"
    assert path in report.made
    assert path.read_text().split()[1] not in str(report)


def test_the_dns_record_it_tells_can_be_pasted_into_a_zone(
    made: tuple[Path, InitReport],
) -> None:
    _, report = made
    (record,) = report.dns_records
    assert record.name == "gate1._domainkey.ses-example.com"
    assert record.value.startswith("v=DKIM1; k=rsa; p=")
    pieces = str(record).split('"')[1::2]
    assert "".join(pieces) == record.value
    assert max(map(len, pieces)) <= 255  # RFC 1035 §3.3


def test_only_the_owner_can_read_what_is_private(made: tuple[Path, InitReport]) -> None:
    private = made[0] / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    files = list(private.iterdir())
    assert {path.name for path in files} == {
        "tls.crt",
        "tls.key",
        "master.key",
        f"{KEY_ID}.secret",
        "ses-example.com.gate1.pem",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory. Raises SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_the_certificate_is_good_for_a_strict_client_that_trusts_it(
    made: tuple[Path, InitReport],
) -> None:
    private = made[0] / "private"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(private / "tls.crt", private / "tls.key")
    client = ssl.create_default_context(cafile=str(private / "tls.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    # The certificate begins at the tests' own moment, not at the machine's.
    client.verify_flags |= ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME
    handshake(client, server, "gate.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(client, server, "other.example.com")


def test_the_certificate_lasts_ten_years(made: tuple[Path, InitReport]) -> None:
    pem = (made[0] / "private/tls.crt").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc.year == 2036


def test_a_gate_that_is_called_by_its_address_gets_a_certificate_for_it(
    tmp_path: Path,
) -> None:
    folder = small(tmp_path, 'cert_file = "tls.crt"\nkey_file = "tls.key"\n')
    text = (folder / "smtpgate.toml").read_text()
    (folder / "smtpgate.toml").write_text(f'[gate]\nhostname = "[192.0.2.1]"\n{text}')
    initialize(folder, now=NOW)
    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]


def test_the_second_time_there_is_nothing_to_do(made: tuple[Path, InitReport]) -> None:
    folder = made[0]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = initialize(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (report.made, report.logins, report.dns_records) == ([], [], [])
    assert str(report) == f"{folder}/smtpgate.toml: nothing was missing"


@rows(
    "sample, says",
    [
        (Sample(hostname="other.example.com"), "gate.hostname is `gate.example.com', not"),
        (Sample(state_dir=Path("/elsewhere")), "state, not /elsewhere; change it there"),
        (Sample(domain="example.org"), "write the domain into the documents yourself"),
    ],
)
def test_a_value_that_an_existing_configuration_contradicts_is_refused(
    made: tuple[Path, InitReport], sample: Sample, says: str
) -> None:
    with pytest.raises(InitError, match="exists already") as refusal:
        initialize(made[0], sample)
    assert says in str(refusal.value)


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    own = {
        "private/tls.crt": "my certificate",
        "private/tls.key": "my key",
        "private/master.key": "my master key",
        f"private/{KEY_ID}.secret": "my secret",
        "directory/policies/may-send.json": "my policy",
    }
    (tmp_path / "directory/policies").mkdir(parents=True)
    for name, text in own.items():
        (tmp_path / name).write_text(text)
    report = initialize(tmp_path, now=NOW)
    assert {name: (tmp_path / name).read_text() for name in own} == own
    assert not report.logins
    assert len(report.dns_records) == 1


def test_a_new_key_gets_a_secret_and_no_other_a_new_one(tmp_path: Path) -> None:
    first, second = (
        f'[[accounts.{OWNER}.access_keys]]\nid = "AKIA8888ROOT0000000{n}"\n'
        f'secret_file = "../secrets/{n}"\n'
        for n in (1, 2)
    )
    initialize(small(tmp_path, PLAIN, accounts=first))
    kept = (tmp_path / "secrets/1").read_text()
    report = initialize(small(tmp_path, PLAIN, accounts=first + second))
    assert [login.username for login in report.logins] == ["AKIA8888ROOT00000002"]
    assert report.logins[0].owner == "account 888888888888"
    assert (tmp_path / "secrets/1").read_text() == kept


def test_half_a_certificate_is_not_completed(tmp_path: Path) -> None:
    folder = small(tmp_path, 'cert_file = "tls.crt"\nkey_file = "tls.key"\n')
    (folder / "tls.crt").write_text("my certificate")
    with pytest.raises(InitError, match=r"tls\.crt exists and .*tls\.key does not"):
        initialize(folder)
    assert not (folder / "tls.key").exists()


def test_what_only_the_operator_has_is_left_to_be_done(tmp_path: Path) -> None:
    folder = small(
        tmp_path,
        PLAIN,
        'username = "gate"\npassword_file = "upstream.password"\n',
    )
    report = initialize(folder)
    assert len(report.open_problems) == 1
    assert "upstream.password cannot be read" in str(report)
    assert "Still to do" in str(report)


def test_a_configuration_with_errors_is_reported_and_nothing_is_made(tmp_path: Path) -> None:
    folder = small(tmp_path, 'cert_file = "tls.crt"\nkey_fil = "tls.key"\n')
    with pytest.raises(ConfigError, match="did you mean `key_file'"):
        initialize(folder)
    assert not (folder / "tls.crt").exists()


def test_a_directory_with_errors_is_reported(tmp_path: Path) -> None:
    folder = small(tmp_path, PLAIN)
    (folder / "directory/accounts.toml").write_text("[accounts.1]\n")
    with pytest.raises(DirectoryError, match="12 digits"):
        initialize(folder)


def test_without_documents_there_is_nothing_to_make_for_them(tmp_path: Path) -> None:
    folder = small(tmp_path, PLAIN)
    text = (folder / "smtpgate.toml").read_text().replace("apply", "#")
    (folder / "smtpgate.toml").write_text(text)
    (folder / "directory/accounts.toml").write_text("not even TOML")
    report = initialize(folder)
    assert report.made == [folder / "private/master.key"]


def test_what_is_named_without_a_file_is_in_the_directory_already(tmp_path: Path) -> None:
    documents = """
[[accounts.888888888888.access_keys]]
id = "AKIA8888ROOT00000001"
[accounts.888888888888.identities."example.com"]
dkim = [{ selector = "one" }]
"""
    report = initialize(small(tmp_path, PLAIN, accounts=documents))
    assert report.made == [tmp_path / "private/master.key"]


def test_what_a_document_names_is_beside_it(tmp_path: Path) -> None:
    folder = small(tmp_path, PLAIN)
    document = {"id": "AKIA7777ROOT00000001", "secret_file": "root.secret"}
    (folder / "directory/accounts.json").write_text(
        json.dumps({"accounts": {"777777777777": {"access_keys": [document]}}})
    )
    initialize(folder)
    assert (folder / "directory/root.secret").is_file()


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("")
    with pytest.raises(InitError, match="is not a folder"):
        initialize(tmp_path / "etc")


def test_private_files_of_a_checkout_are_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = tmp_path / "sample"
    initialize(sample, Sample(hostname="gate.example.com"), now=NOW)
    monkeypatch.setattr("smtpgate.gate.initialize.sample_folder", lambda: sample)
    initialize(tmp_path / "copy", Sample(hostname="gate.example.com"), now=NOW)
    for name in (sample / "private").iterdir():
        assert name.read_bytes() != (tmp_path / "copy/private" / name.name).read_bytes()


# -- the sample's policies ---------------------------------------------------------------------


def findings(path: Path) -> list[str]:
    text = path.read_text()
    kind = "identity" if '"Principal"' in text else "user"
    policy = parse_policy(
        text, kind="identity" if kind == "identity" else "user", name=path.stem
    )
    return [finding.code for finding in lint_policy(policy, source=text)]


USEFUL: Final = sorted(path for path in POLICIES.glob("*.json") if path.name != ANNOUNCED)


def test_the_sample_has_six_policies_and_the_announced_one() -> None:
    assert sample_folder() == POLICIES.parents[1]
    assert len(USEFUL) == 6
    assert (POLICIES / ANNOUNCED).is_file()


@pytest.mark.parametrize("path", USEFUL, ids=[path.stem for path in USEFUL])
def test_lint_has_nothing_to_say_of_the_samples_policies(path: Path) -> None:
    assert not findings(path)


def test_the_announced_policy_shows_what_lint_is_for() -> None:
    assert findings(POLICIES / ANNOUNCED) == ["regex-as-glob"]
    attached = (POLICIES.parent / "accounts.toml").read_text()
    assert f'policies/{ANNOUNCED}"' not in attached


@pytest.mark.parametrize("path", USEFUL, ids=[path.stem for path in USEFUL])
def test_each_of_the_samples_policies_can_be_attached(path: Path, tmp_path: Path) -> None:
    is_identity = '"Principal"' in path.read_text()
    place = 'identities."ses-example.com"' if is_identity else "users.mailer"
    (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "a.toml").write_text(
        f'[accounts.{OWNER}.{place}]\npolicies = {{ tried = "{path.name}" }}\n'
    )
    found = read_desired(tmp_path, region="us-east-1", partition="aws")
    assert [account.id for account in found.accounts] == [OWNER]


def test_a_state_folder_goes_into_a_configuration_that_is_made(tmp_path: Path) -> None:
    initialize(tmp_path, Sample(state_dir=Path("/var/lib/smtpgate")))
    assert load_config(tmp_path / "smtpgate.toml").gate.state_dir == Path("/var/lib/smtpgate")


def test_a_domain_goes_into_documents_that_are_made(tmp_path: Path) -> None:
    report = initialize(tmp_path, Sample(domain="Mail.Example.NET"))
    found = declared(tmp_path)
    (one,) = found.identities
    assert (one.name, one.is_verified) == ("mail.example.net", True)
    assert "marketing@mail.example.net" in one.policies[0].document
    assert [record.name for record in report.dns_records] == [
        "gate1._domainkey.mail.example.net"
    ]
    assert (tmp_path / "private/mail.example.net.gate1.pem").exists()
    announced = (tmp_path / "directory/policies" / ANNOUNCED).read_text()
    assert "ses-example.com" in announced
    texts = [path.read_text() for path in tmp_path.rglob("directory/**/*") if path.is_file()]
    assert sum("ses-example.com" in text for text in texts) == 1


def test_a_domain_for_a_configuration_that_is_there_is_refused(tmp_path: Path) -> None:
    initialize(tmp_path)
    with pytest.raises(InitError, match="write the domain into the documents yourself"):
        initialize(tmp_path, Sample(domain="example.net"))
    with pytest.raises(InitError, match="'no domain' is not a domain"):
        initialize(tmp_path / "other", Sample(domain="no domain"))
