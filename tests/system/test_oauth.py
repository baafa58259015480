"""Access tokens from an OAuth server of a library, and what becomes of a login with them."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from smtpgate.clock import SystemClock
from smtpgate.config.oauth import OAuthConfig
from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.secret import Secret
from smtpgate.gate.frames import AskToken, TokenShared, encode
from smtpgate.gate.tokens import new_tokens, unusable_secrets
from smtpgate.oauth import Grant, SharedToken, SharedTokens, TokenSource
from smtpgate.ports import NoTokenError
from smtpgate.relay import PooledUpstream
from smtpgate.tasks import TaskOwner
from tests.support.clock import move_loop
from tests.support.deliveries import UnsentError, deliver
from tests.support.inprocess import login, open_gate, send
from tests.support.oauth_server import CLOSE, HOLD, Client, Fault, OAuthServer, oauth_server
from tests.support.rows import rows
from tests.support.upstream_server import TO_BOB, UpstreamServer, open_upstream
from tests.support.waiting import until

pytestmark = pytest.mark.slow

SENDER = "sender@example.com"
MESSAGE = [b"Subject: Spring\r\n\r\n", b"Hello\r\n"]
SECRET = "s3cret~with+signs/=&%"


@pytest.fixture
def oauth() -> Iterator[OAuthServer]:
    with oauth_server() as server:
        yield server


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_of_unknown_curve() -> bytes:
    """A private key in PEM of prime192v3, by its OID: the last octet of it is not 7 but 3."""
    lines = pem(ec.generate_private_key(ec.SECP256R1())).splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))
    der = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030103"))
    return b"\n".join((lines[0], base64.b64encode(der), lines[-1]))


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def written(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@asynccontextmanager
async def tokens_of(
    settings: dict[str, Any], problems: list[str | None] | None = None
) -> AsyncIterator[TokenSource]:
    """The source of tokens that a gate with these settings has."""
    tasks = TaskOwner()
    config = UpstreamServer((), None).config(
        username=SENDER, oauth=OAuthConfig.model_validate(settings)
    )
    said = problems if problems is not None else []
    tokens = new_tokens(config, SystemClock(), tasks, lambda _, problem: said.append(problem))
    assert tokens is not None
    try:
        yield tokens
    finally:
        tokens.close()
        await tasks.drain(1)


def with_secret(oauth: OAuthServer, folder: Path, **more: object) -> dict[str, Any]:
    """Settings of a client with a secret, which the server knows."""
    oauth.add(Client("gate", secret=SECRET))
    return {
        "token_endpoint": oauth.url,
        "client_id": "gate",
        "client_secret_file": written(folder, "secret", f"{SECRET}\n"),
        "scope": "smtp.send",
    } | more


# -- grants ------------------------------------------------------------------------------------


async def test_client_credentials_with_a_secret(oauth: OAuthServer, tmp_path: Path) -> None:
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        assert await tokens.token() == Secret("token-1")
        assert await tokens.token() == Secret("token-1")
        (form,) = oauth.requests
        assert form == {"grant_type": "client_credentials", "scope": "smtp.send"}
        state = tokens.state()
        assert state.left_s is not None
        assert 3500 < state.left_s <= 3600
        assert (state.problem, state.failures, state.fetches) == (None, 0, 1)


@pytest.mark.parametrize("is_certified", [True, False])
async def test_client_credentials_with_an_assertion(
    oauth: OAuthServer, tmp_path: Path, private_key: rsa.RSAPrivateKey, is_certified: bool
) -> None:
    oauth.add(Client("gate", public_key=public_pem(private_key)))
    settings: dict[str, Any] = {
        "token_endpoint": oauth.url,
        "client_id": "gate",
        "private_key_file": written(tmp_path, "key", pem(private_key)),
    }
    header = {"alg": "RS256", "typ": "JWT"}
    if is_certified:
        certificate = certificate_of(private_key)
        settings["certificate_file"] = written(tmp_path, "crt", certificate)
        fingerprint = x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())
        thumbprint = base64.urlsafe_b64encode(fingerprint).decode().rstrip("=")
        header = {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}
    async with tokens_of(settings) as tokens:
        assert await tokens.token() == Secret("token-1")
    assert oauth.headers == [header]
    (form,) = oauth.requests
    assert form["grant_type"] == "client_credentials"
    assert form["client_id"] == "gate"


def certificate_of(key: rsa.RSAPrivateKey) -> bytes:
    """A certificate that the key signed for itself, as Entra takes it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gate")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def test_a_service_account_acts_for_the_mailbox(
    oauth: OAuthServer, tmp_path: Path, private_key: rsa.RSAPrivateKey
) -> None:
    account = "gate@project.iam.example.com"
    client = Client(account, public_key=public_pem(private_key), subjects=frozenset({SENDER}))
    oauth.add(client)
    settings = {
        "token_endpoint": oauth.url,
        "grant": "jwt-bearer",
        "client_id": account,
        "private_key_file": written(tmp_path, "key", pem(private_key)),
        "scope": "https://mail.example.com/",
    }
    async with tokens_of(settings) as tokens:
        assert await tokens.token() == Secret("token-1")
    async with tokens_of(settings | {"subject": "other@example.com"}) as tokens:
        with pytest.raises(NoTokenError, match="invalid_client: Client has no permission"):
            await tokens.token()


@pytest.mark.parametrize("has_secret", [True, False])
async def test_a_refresh_token_and_those_that_replace_it(
    oauth: OAuthServer, tmp_path: Path, has_secret: bool
) -> None:
    settings = with_secret(oauth, tmp_path, grant="refresh-token")
    if not has_secret:
        del settings["client_secret_file"]
    oauth.add(Client("gate", secret=SECRET if has_secret else ""), refresh_token="first")
    oauth.rotates, oauth.lifetime_s = True, 100
    settings["refresh_token_file"] = file = written(tmp_path, "refresh", "first\n")
    async with tokens_of(settings) as tokens:
        await tokens.token()
        await move_loop(81)
        await until(lambda: tokens.state().fetches == 2)
        assert [form["refresh_token"] for form in oauth.requests] == ["first", "refresh-1"]
        # An operator puts another one into the file.
        oauth.add(oauth.clients["gate"], refresh_token="second")
        file.write_text("second\n")
        await move_loop(81)
        await until(lambda: tokens.state().fetches == 3)
        assert oauth.requests[-1]["refresh_token"] == "second"


# -- time and faults ---------------------------------------------------------------------------


async def test_one_fetch_serves_all_that_wait(oauth: OAuthServer, tmp_path: Path) -> None:
    oauth.faults.append(HOLD)
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        waiting = [asyncio.create_task(tokens.token()) for _ in range(20)]
        await until(lambda: len(oauth.requests) == 1)
        waiting[0].cancel()
        oauth.release()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == [Secret("token-1")] * 19
        assert len(oauth.requests) == 1


async def test_another_token_is_fetched_before_the_first_ends(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    oauth.lifetime_s = 1000
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        assert await tokens.token() == Secret("token-1")
        await move_loop(801)
        await until(lambda: tokens.state().fetches == 2)
        assert await tokens.token() == Secret("token-2")
        assert len(oauth.requests) == 2


FAULTS: list[tuple[Fault, str]] = [
    ((500, b"oops"), "the token endpoint answered 500"),
    ((503, b'{"error": "temporarily_unavailable"}'), "503: temporarily_unavailable"),
    ((200, b"<html>sign in</html>"), "answer has no token"),
    ((200, b"[1]"), "answer has no token"),
    ((200, b"[" * 60_000), "answer has no token"),
    ((200, b"\xff\xfe"), "answer has no token"),
    ((200, b'{"token_type": "Bearer"}'), "answer has no token"),
    ((200, b'{"access_token": 7, "token_type": "Bearer"}'), "answer has no token"),
    ((200, b'{"access_token": "a", "token_type": "mac"}'), "a token of another type"),
    ((200, b'{"access_token": "a b", "token_type": "Bearer"}'), "a token that cannot be sent"),
    ((200, b'{"access_token": "a\\u0001", "token_type": "Bearer"}'), "cannot be sent"),
    (
        (200, b'{"access_token": "a", "token_type": "Bearer", "expires_in": 0}'),
        "a token that has ended",
    ),
    (
        (200, b'{"access_token": "a", "token_type": "Bearer", "expires_in": "soon"}'),
        "a token that has ended",
    ),
    (
        (200, b'{"access_token": "a", "token_type": "Bearer", "expires_in": NaN}'),
        "a token that has ended",
    ),
    ((200, b'{"access_token": "' + b"x" * 100_000), "answer has no token"),
    ((302, b""), "the token endpoint answered 302"),
    ((400, b'{"error": "invalid_scope", "error_description": "no\\nsuch scope"}'), "no such"),
    (CLOSE, "it closed the connection without an answer"),
]


@rows("fault, problem", FAULTS, ids=[problem for _, problem in FAULTS])
async def test_an_answer_without_a_token_says_why_and_the_next_try_may_work(
    tmp_path: Path, fault: Fault, problem: str
) -> None:
    said: list[str | None] = []
    with oauth_server() as oauth:
        oauth.faults.append(fault)
        async with tokens_of(with_secret(oauth, tmp_path), said) as tokens:
            with pytest.raises(NoTokenError, match=problem):
                await tokens.token()
            with pytest.raises(NoTokenError, match=problem):  # it is not asked at once again
                await tokens.token()
            assert len(oauth.requests) == 1
            assert SECRET not in str(tokens.state())
            await move_loop(1.1)
            await until(lambda: tokens.state().fetches == 1)
            assert await tokens.token() == Secret("token-1")
    assert len(said) == 2
    assert said[1] is None


async def test_a_slow_server_is_given_up(oauth: OAuthServer, tmp_path: Path) -> None:
    oauth.faults.append(HOLD)
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        waiting = asyncio.create_task(tokens.token())
        await until(lambda: len(oauth.requests) == 1)
        await move_loop(11)
        with pytest.raises(NoTokenError, match="no answer within 10 s"):
            await waiting


def failed(tokens: TokenSource, times: int) -> bool:
    return tokens.state().failures == times


async def test_pauses_grow_while_fetches_fail_and_the_old_token_serves_until_its_end(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    oauth.lifetime_s = 1000
    said: list[str | None] = []
    async with tokens_of(with_secret(oauth, tmp_path), said) as tokens:
        await tokens.token()
        oauth.faults.extend([(500, b"")] * 100)
        await move_loop(801)
        for failures, pause_s in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60)]:
            await until(partial(failed, tokens, failures))
            assert await tokens.token() == Secret("token-1")
            await move_loop(pause_s - 0.5)
            assert tokens.state().failures == failures
            await move_loop(0.6)
        await until(lambda: tokens.state().failures == 8)
        await move_loop(59)
        assert await tokens.token() == Secret("token-1")
        readings = {one.metric: one.value for one in tokens.readings()}
        assert readings["smtpgate_upstream_token_up"] == 0
        assert 0 < readings["smtpgate_upstream_token_left_seconds"] < 200
        await move_loop(200)
        with pytest.raises(NoTokenError, match="answered 500"):
            await tokens.token()
    assert said == ["the token endpoint answered 500"]


async def test_a_secret_is_replaced_without_a_restart(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    settings = with_secret(oauth, tmp_path)
    oauth.clients["gate"].secret = "another"
    async with tokens_of(settings) as tokens:
        with pytest.raises(NoTokenError, match="answered 401: invalid_client"):
            await tokens.token()
        written(tmp_path, "secret", "another\n")
        await move_loop(1.1)
        await until(lambda: tokens.state().fetches == 1)
        assert await tokens.token() == Secret("token-1")


@rows(
    "name, content, problem",
    [
        ("client_secret_file", b"", "must have one line"),
        ("client_secret_file", b"two\nlines", "must have one line"),
        ("client_secret_file", b"\xff", "is not UTF-8"),
        ("private_key_file", b"no key", "not in PEM, or has a password"),
        ("private_key_file", key_of_unknown_curve(), "neither RSA nor of the curve P-256"),
        ("private_key_file", None, "no such file"),
    ],
)
async def test_a_file_that_cannot_be_used_is_a_problem_and_no_fault(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    with oauth_server() as oauth:
        settings = with_secret(oauth, tmp_path)
        del settings["client_secret_file"]
        file = tmp_path / name
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        async with tokens_of(settings | {name: file}) as tokens:
            with pytest.raises(NoTokenError, match=problem):
                await tokens.token()
        assert oauth.requests == []


async def test_a_fetch_that_fails_by_a_defect_is_repeated(
    oauth: OAuthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        with monkeypatch.context() as patch:
            patch.setattr(Grant, "request", lambda *_: 1 // 0)
            with pytest.raises(NoTokenError, match="failed by a defect"):
                await tokens.token()
        with pytest.raises(NoTokenError, match="failed by a defect"):
            await tokens.token()
        await move_loop(1.1)
        await until(lambda: tokens.state().fetches == 1)
        assert tokens.state().problem is None


def test_the_check_of_a_configuration_finds_secrets_that_cannot_be_used(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    settings = with_secret(oauth, tmp_path)
    now = SystemClock().now()
    good = UpstreamServer((), None).config(
        username=SENDER, oauth=OAuthConfig.model_validate(settings)
    )
    del settings["client_secret_file"]
    settings["private_key_file"] = file = written(tmp_path, "key", "no key")
    bad = good.model_copy(update={"oauth": OAuthConfig.model_validate(settings)})
    found = list(unusable_secrets([good, bad, UpstreamServer((), None).config()], now))
    assert found == ["upstream.next.oauth: the private key is not in PEM, or has a password"]
    file.unlink()
    (missing,) = unusable_secrets([bad], now)
    assert missing == f"upstream.next.oauth: {file}: no such file or directory"
    assert oauth.requests == []


async def test_keys_that_must_not_sign(
    oauth: OAuthServer, tmp_path: Path, private_key: rsa.RSAPrivateKey
) -> None:
    settings = {"token_endpoint": oauth.url, "client_id": "gate"}
    small = rsa.generate_private_key(65537, 1024)
    wrong: list[tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, str]] = [
        (small, "less than 2048 bits"),
        (ec.generate_private_key(ec.SECP384R1()), "P-256"),
    ]
    for key, problem in wrong:
        file = written(tmp_path, "key", pem(key))
        async with tokens_of(settings | {"private_key_file": file}) as tokens:
            with pytest.raises(NoTokenError, match=problem):
                await tokens.token()
    other = {
        "private_key_file": written(tmp_path, "key", pem(private_key)),
        "certificate_file": written(tmp_path, "crt", certificate_of(small)),
    }
    async with tokens_of(settings | other) as tokens:
        with pytest.raises(NoTokenError, match="of another key"):
            await tokens.token()
    assert oauth.requests == []


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_the_certificate_of_the_token_endpoint_is_verified(
    tmp_path: Path, is_trusted: bool
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    (authority if is_trusted else other).cert_pem.write_to_path(str(ca_file))
    with oauth_server(context, host="localhost") as oauth:
        async with tokens_of(with_secret(oauth, tmp_path, ca_file=ca_file)) as tokens:
            if is_trusted:
                assert await tokens.token() == Secret("token-1")
            else:
                with pytest.raises(NoTokenError, match="its certificate is refused"):
                    await tokens.token()
                assert oauth.requests == []


# -- logins ------------------------------------------------------------------------------------


@asynccontextmanager
async def relay(
    server: UpstreamServer, settings: dict[str, Any]
) -> AsyncIterator[PooledUpstream]:
    """A relay to the server that logs in with tokens."""
    tasks = TaskOwner()
    config: UpstreamConfig = server.config(
        username=SENDER, oauth=OAuthConfig.model_validate(settings)
    )
    tokens = new_tokens(config, SystemClock(), tasks)
    upstream = PooledUpstream(config, clock=SystemClock(), tasks=tasks, tokens=tokens)
    try:
        yield upstream
    finally:
        await upstream.close()
        await tasks.drain(1)


def token_in(command: str) -> str:
    """The access token of a login."""
    return base64.b64decode(command.split()[2]).decode().split("Bearer ")[1].strip("\1")


def takes(*good: str) -> Callable[[str], str]:
    """A server that lets in with one of these tokens."""
    return lambda command: (
        "235 2.7.0 welcome" if token_in(command) in good else "535 5.7.8 not accepted"
    )


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
async def test_mail_goes_out_with_a_token(
    oauth: OAuthServer, tmp_path: Path, mechanism: str
) -> None:
    async with open_upstream("PIPELINING", f"AUTH LOGIN {mechanism}") as server:
        server.answers["AUTH"] = takes("token-1")
        async with relay(server, with_secret(oauth, tmp_path)) as upstream:
            assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
            state = upstream.token_state
            assert state is not None
            assert (state.upstream, state.fetches, state.problem) == ("next", 1, None)
        assert server.visits[0].commands[1].startswith(f"AUTH {mechanism} ")


async def test_a_token_that_was_revoked_is_replaced_once(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    async with open_upstream("PIPELINING", "AUTH XOAUTH2") as server:
        server.answers["AUTH"] = takes("token-2")
        async with relay(server, with_secret(oauth, tmp_path)) as upstream:
            assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert len(oauth.requests) == 2
        assert len(server.visits) == 2


async def test_a_server_that_refuses_every_token_costs_two_and_no_more_for_a_minute(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    async with open_upstream("PIPELINING", "AUTH XOAUTH2") as server:
        server.answers["AUTH"] = takes()
        async with relay(server, with_secret(oauth, tmp_path)) as upstream:
            for _ in range(3):
                with pytest.raises(UnsentError, match=r"it refused our login: 535 5\.7\.8"):
                    await deliver(upstream, TO_BOB, MESSAGE)
            assert len(oauth.requests) == 2
            await move_loop(61)
            with pytest.raises(UnsentError, match="it refused our login"):
                await deliver(upstream, TO_BOB, MESSAGE)
            assert len(oauth.requests) == 3


async def test_without_a_token_nothing_is_sent(oauth: OAuthServer, tmp_path: Path) -> None:
    oauth.faults.append((500, b""))
    async with open_upstream("AUTH XOAUTH2") as server:
        async with relay(server, with_secret(oauth, tmp_path)) as upstream:
            with pytest.raises(
                UnsentError, match="no access token: the token endpoint answered 500"
            ):
                await deliver(upstream, TO_BOB, MESSAGE)
            assert {one.metric for one in upstream.readings()} >= {
                "smtpgate_upstream_token_up",
                "smtpgate_upstream_token_left_seconds",
            }
        assert server.visits == []


async def test_a_gate_logs_in_with_tokens_and_shows_when_it_has_none(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    settings = with_secret(oauth, tmp_path)
    settings["client_secret_file"].chmod(0o600)
    oauth.faults.append((500, b""))
    section = f"""
[upstream.sink.oauth]
token_endpoint = "{oauth.url}"
client_id = "gate"
client_secret_file = "secret"
"""
    username = f'username = "{SENDER}"'
    async with (
        open_upstream("AUTH XOAUTH2") as server,
        open_gate(tmp_path, port=server.port, upstream=username, sections=section) as (gate, _),
    ):
        server.answers["AUTH"] = takes("token-1")
        assert (await send(await login(gate))).startswith("451 4.4.1 Upstream")
        assert (
            'smtpgate_upstream_token_up{upstream="sink"} 0.0' in gate.metrics.render().decode()
        )
        await move_loop(1.1)
        await until(lambda: len(oauth.issued) == 1)
        assert (await send(await login(gate))).startswith("250")
        assert (
            'smtpgate_upstream_token_up{upstream="sink"} 1.0' in gate.metrics.render().decode()
        )
        await gate.log.flush()
        log = (tmp_path / "log").read_text()
        assert log.count('"event":"upstream-token failed","upstream":"sink"') == 1
        assert log.count('"event":"upstream-token usable","upstream":"sink"') == 1
        assert SECRET not in log
        assert "token-1" not in log


# -- tokens that another process fetches -------------------------------------------------------


class Desk:
    """A fetcher of tokens, and those that its user of it reported as refused."""

    def __init__(self, lifetime_s: float = 3600) -> None:
        self.lifetime_s = lifetime_s
        self.asked: list[Secret | None] = []
        self.problem: str | None = None

    async def share(self, refused: Secret | None) -> SharedToken:
        self.asked.append(refused)
        if self.problem is not None:
            raise NoTokenError(self.problem)
        value = Secret(f"token-{len(self.asked)}")
        return SharedToken(value, self.lifetime_s, self.lifetime_s)


async def test_a_user_of_tokens_keeps_its_token_until_it_is_about_to_end() -> None:
    desk = Desk()
    tokens = SharedTokens("sink", desk.share)
    assert await tokens.token() == await tokens.token() == Secret("token-1")
    await move_loop(3585)
    assert await tokens.token() == Secret("token-1")
    await move_loop(10)
    assert await tokens.token() == Secret("token-2")
    assert desk.asked == [None, None]
    assert list(tokens.readings()) == []
    tokens.close()
    with pytest.raises(NoTokenError, match="the gate is stopping"):
        await tokens.token()


async def test_a_user_of_tokens_reports_a_refused_token_once_a_minute() -> None:
    desk = Desk()
    tokens = SharedTokens("sink", desk.share)
    first = await tokens.token()
    assert tokens.refused(first)
    second = await tokens.token()
    assert desk.asked == [None, first]
    assert not tokens.refused(second), "the server refuses every token"
    assert await tokens.token() == second
    assert tokens.refused(first), "another one was shared meanwhile"
    await move_loop(61)
    assert tokens.refused(second)
    assert await tokens.token() == Secret("token-3")
    assert desk.asked == [None, first, second]


async def test_a_user_of_tokens_passes_on_why_there_is_no_token() -> None:
    desk = Desk()
    desk.problem = "the token endpoint answered 400"
    tokens = SharedTokens("sink", desk.share)
    with pytest.raises(NoTokenError, match="answered 400"):
        await tokens.token()
    assert (tokens.state().problem, tokens.state().failures) == (desk.problem, 1)
    desk.problem = None
    assert await tokens.token() == Secret("token-2")
    assert (tokens.state().problem, tokens.state().failures) == (None, 0)


async def test_a_source_shares_its_token_with_the_time_that_is_left(
    oauth: OAuthServer, tmp_path: Path
) -> None:
    async with tokens_of(with_secret(oauth, tmp_path)) as tokens:
        first = await tokens.share()
        assert 3590 < first.left_s <= first.lifetime_s == 3600
        await move_loop(100)
        later = await tokens.share()
        assert later.value == first.value
        assert 3490 < later.left_s < 3501


def test_frames_with_tokens_do_not_print_them() -> None:
    for frame in (
        AskToken(1, "sink", Secret("token-1")),
        TokenShared(1, Secret("token-1"), 1.0, 2.0, None),
    ):
        assert "token-1" not in repr(frame)
        assert b"token-1" in encode(frame)
