"""Tokens of issuers: which ones are logins, for which access key, and for how long."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import RSAKey

from smtpgate.config.issuers import IssuerConfig, LoginConfig
from smtpgate.core.secret import Secret
from smtpgate.oauth.issuer_keys import IssuerKeys
from smtpgate.oauth.logins import IssuedLogins
from smtpgate.oauth.verifying import BadKeysError, read_keys
from smtpgate.ports import NoIssuerKeysError, TokenLogin, TokenRefusedError
from smtpgate.tasks import TaskOwner
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    SUBJECT,
    claims_at,
    public,
    signed,
    signing_key,
)
from tests.support.rows import rows
from tests.support.waiting import until

KEY: Final = "AKIAMAILER0000000000"
OTHER_KEY: Final = "AKIAOTHER00000000000"
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


def login(issuer: str = "cluster", access_key: str = KEY, **claims: str) -> LoginConfig:
    return LoginConfig(issuer=issuer, claims=claims or {"sub": SUBJECT}, access_key=access_key)


def issuer_named(name: str = "cluster", url: str = ISSUER, **more: Any) -> IssuerConfig:  # noqa: ANN401
    return IssuerConfig.model_validate(
        {
            "name": name,
            "issuer": url,
            "audience": AUDIENCE,
            "jwks_url": "https://issuer.example.com/keys",
            "algorithms": ALGORITHMS,
            **more,
        }
    )


class World:
    """Issuers whose sets of keys a test changes."""

    def __init__(self, clock: MovableClock) -> None:
        self.clock = clock
        self.tasks = TaskOwner()
        self.sets: dict[str, Any] = {"cluster": {"keys": [public(signing_key(), "one")]}}
        self.fetches: list[str] = []
        self.troubles: list[tuple[str, str | None]] = []

    def keys(self, name: str) -> IssuerKeys:
        async def fetch() -> bytes:
            self.fetches.append(name)
            if self.sets.get(name) is None:
                raise NoIssuerKeysError("the issuer answered 503")
            return json.dumps(self.sets[name]).encode()

        def on_trouble(problem: str | None) -> None:
            self.troubles.append((name, problem))

        return IssuerKeys(fetch, refresh_s=300, tasks=self.tasks, on_trouble=on_trouble)

    def logins(
        self, *rules: LoginConfig, issuers: tuple[IssuerConfig, ...] = ()
    ) -> IssuedLogins:
        issuers = issuers or (issuer_named(),)
        keys = {one.name: self.keys(one.name) for one in issuers}
        return IssuedLogins(issuers, rules or (login(),), keys, self.clock)

    def token(self, **changes: Any) -> str:  # noqa: ANN401 - JSON
        return signed(claims_at(self.clock.now(), **changes))


@pytest.fixture
def world(clock: MovableClock) -> World:
    return World(clock)


async def refusal(logins: IssuedLogins, token: str) -> TokenRefusedError:
    with pytest.raises(TokenRefusedError) as caught:
        _ = await logins.login(Secret(token))
    assert not token or token not in str(caught.value) + caught.value.subject
    return caught.value


async def test_a_token_of_the_issuer_is_a_login_with_the_key_of_its_claims(
    world: World,
) -> None:
    found = await world.logins().login(Secret(world.token()))
    assert isinstance(found, TokenLogin)
    assert (found.access_key_id, found.subject) == (KEY, f"cluster:{SUBJECT}")
    assert found.ends_at == world.clock.now() + timedelta(seconds=630)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_may_be_signed_with_each_algorithm_that_is_allowed(
    world: World, algorithm: str
) -> None:
    world.sets["cluster"] = {"keys": [public(signing_key(algorithm), "one")]}
    token = signed(claims_at(world.clock.now()), algorithm=algorithm)
    assert (await world.logins().login(Secret(token))).access_key_id == KEY
    others = tuple(one for one in ALGORITHMS if one != algorithm)
    strict = world.logins(issuers=(issuer_named(algorithms=others),))
    assert "algorithm" in str(await refusal(strict, token))


CLAIMS: Final[list[tuple[dict[str, Any], str]]] = [
    ({"aud": "smtp://other.example"}, "another audience"),
    ({"aud": ["smtp://other.example"]}, "another audience"),
    ({"aud": None}, "another audience"),
    ({"aud": {AUDIENCE: 1}}, "another audience"),
    ({"aud": f"{AUDIENCE}/"}, "another audience"),
    ({"iss": f"{ISSUER}/"}, "not configured"),
    ({"iss": None}, "not configured"),
    ({"iss": [ISSUER]}, "not configured"),
    ({"exp": None}, "no proper exp"),
    ({"exp": "4102444800"}, "no proper exp"),
    ({"exp": True}, "no proper exp"),
    ({"exp": 10**30}, "no proper exp"),
    ({"exp": -1}, "no proper exp"),
    ({"iat": None}, "no proper iat"),
    ({"nbf": "now"}, "no proper nbf"),
]


@rows("changes,problem", CLAIMS)
async def test_a_token_with_other_claims_is_refused(
    clock: MovableClock, changes: dict[str, Any], problem: str
) -> None:
    world = World(clock)
    error = await refusal(world.logins(), world.token(**changes))
    assert (error.reason, problem in str(error)) == ("invalid-token", True), str(error)


@rows(
    "changes,problem",
    [
        ({"exp": -30}, "expired"),
        ({"exp": -29}, ""),
        ({"nbf": 31}, "not valid yet"),
        ({"nbf": 30}, ""),
        ({"iat": 31, "nbf": None}, "not valid yet"),
        ({"iat": -86_431}, "max_token_age_s"),
        ({"iat": -86_430, "exp": 600}, "max_token_age_s"),
        ({"iat": -86_429}, ""),
    ],
)
async def test_times_count_with_a_small_difference_of_the_clocks(
    clock: MovableClock, changes: dict[str, int | None], problem: str
) -> None:
    world = World(clock)
    now_s = int(clock.now().timestamp())
    token = world.token(
        **{name: None if s is None else now_s + s for name, s in changes.items()}
    )
    if not problem:
        assert (await world.logins().login(Secret(token))).access_key_id == KEY
    else:
        assert problem in str(await refusal(world.logins(), token))


def _part(value: object) -> str:
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def _none(world: World) -> str:
    return f"{_part({'alg': 'none', 'kid': 'one'})}.{_part(claims_at(world.clock.now()))}.AAAA"


def _none_without_signature(world: World) -> str:
    return f"{_part({'alg': 'none'})}.{_part(claims_at(world.clock.now()))}."


def _with_the_public_key(world: World) -> str:
    key = signing_key("RS256")
    assert isinstance(key, RSAKey)
    world.sets["cluster"] = {"keys": [public(key, "one")]}
    pem = key.public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = _part({"alg": "HS256", "kid": "one"})
    text = f"{header}.{_part(claims_at(world.clock.now()))}"
    return f"{text}.{_part(hmac.digest(pem, text.encode(), 'sha256'))}"


def _by_another_key(world: World) -> str:
    return signed(claims_at(world.clock.now()), key=signing_key(number=2))


def _key_in_the_header(world: World) -> str:
    other = signing_key(number=2)
    jwk = other.as_dict(private=False)
    places = {"jku": "https://attacker.example/keys", "x5u": "https://attacker.example/crt"}
    return signed(
        claims_at(world.clock.now()), key=other, key_id=None, header={"jwk": jwk, **places}
    )


def _critical(world: World) -> str:
    header = _part({"alg": "ES256", "kid": "one", "crit": ["exp"], "exp": 1})
    return ".".join([header, *world.token().split(".")[1:]])


def _unencoded(world: World) -> str:
    return signed(claims_at(world.clock.now()), header={"b64": True})


def _twice(world: World) -> str:
    text = json.dumps(claims_at(world.clock.now()))
    return signed(f'{text[:-1]}, "aud": "{AUDIENCE}"}}'.encode())


def _algorithm_twice(world: World) -> str:
    header = _part(b'{"alg": "none", "kid": "one", "alg": "ES256"}')
    return ".".join([header, *world.token().split(".")[1:]])


def _changed(world: World) -> str:
    header, _, signature = world.token().split(".")
    return f"{header}.{_part(claims_at(world.clock.now(), sub='admin'))}.{signature}"


def _path(world: World) -> str:
    return signed(claims_at(world.clock.now()), key_id="../../../../dev/null")


def _number_as_key_id(world: World) -> str:
    return ".".join([_part({"alg": "ES256", "kid": 1}), *world.token().split(".")[1:]])


def _huge(world: World) -> str:
    return world.token(more="x" * 8000)


ATTACKS: Final[list[tuple[Callable[[World], str], str]]] = [
    (_none, "algorithm"),
    (_none_without_signature, "no signed JWT"),
    (_with_the_public_key, "algorithm"),
    (_by_another_key, "signature"),
    (_key_in_the_header, "signature"),
    (_critical, "extension"),
    (_unencoded, "extension"),
    (_twice, "proper JSON"),
    (_algorithm_twice, "proper JSON"),
    (_changed, "signature"),
    (_path, "no such key"),
    (_huge, "octets"),
    (lambda world: signed(claims_at(world.clock.now()), header={"typ": "dpop+jwt"}), "type"),
    (_number_as_key_id, "kid"),
    (lambda _: signed(b"[]"), "JSON object"),
    (lambda _: signed(b'{"iss": NaN}'), "proper JSON"),
    (lambda _: signed(b"[" * 5000), "proper JSON"),
    (lambda _: signed(b"\xff"), "proper JSON"),
    (lambda _: "", "no signed JWT"),
    (lambda _: "a.b", "no signed JWT"),
    (lambda world: world.token() + ".x", "no signed JWT"),
    (lambda world: world.token() + "=", "no signed JWT"),
]


@rows("attack,problem", ATTACKS)
async def test_a_forged_token_is_refused(
    clock: MovableClock, attack: Callable[[World], str], problem: str
) -> None:
    world = World(clock)
    error = await refusal(world.logins(), attack(world))
    assert (error.reason, problem in str(error)) == ("invalid-token", True), str(error)


async def test_an_issuer_cannot_sign_for_another_one_with_the_same_key_id(
    world: World,
) -> None:
    stranger = signing_key(number=2)
    world.sets["other"] = {"keys": [public(stranger, "one")]}
    issuers = (issuer_named(), issuer_named("other", "https://other.example"))
    logins = world.logins(login(), login("other", OTHER_KEY), issuers=issuers)
    token = signed(claims_at(world.clock.now()), key=stranger)
    assert "signature" in str(await refusal(logins, token))
    own = signed(claims_at(world.clock.now(), iss="https://other.example"), key=stranger)
    assert (await logins.login(Secret(own))).access_key_id == OTHER_KEY


async def test_a_token_without_a_key_id_needs_a_set_with_one_key_that_fits(
    world: World,
) -> None:
    token = signed(claims_at(world.clock.now()), key_id=None)
    world.sets["cluster"]["keys"].append(public(signing_key("RS256"), "rsa"))
    assert (await world.logins().login(Secret(token))).access_key_id == KEY
    world.sets["cluster"]["keys"].append(public(signing_key(number=2), "two"))
    assert "no such key" in str(await refusal(world.logins(), token))


# -- the access key ----------------------------------------------------------------------------


@rows(
    "rules,claims,found",
    [
        ((login(sub="system:serviceaccount:shop:*"),), {}, KEY),
        ((login(sub="system:serviceaccount:other:*"),), {}, "matches no"),
        ((login(sub=SUBJECT.upper()),), {}, "matches no"),
        ((login(sub=SUBJECT, repository="example/shop"),), {}, "matches no"),
        (
            (login(repository="example/*", ref="refs/heads/main"),),
            {"repository": "example/shop", "ref": "refs/heads/main"},
            KEY,
        ),
        (
            (login(repository="example/*", ref="refs/heads/main"),),
            {"repository": "example/shop", "ref": "refs/heads/other"},
            "matches no",
        ),
        ((login(groups="mail"),), {"groups": ["mail"]}, "matches no"),
        ((login(), login(sub="system:*")), {}, KEY),
        ((login(), login(access_key=OTHER_KEY, sub="system:*")), {}, "more than one"),
    ],
)
async def test_the_claims_decide_about_the_access_key(
    clock: MovableClock, rules: tuple[LoginConfig, ...], claims: dict[str, Any], found: str
) -> None:
    world = World(clock)
    logins, token = world.logins(*rules), world.token(**claims)
    if found == KEY:
        assert (await logins.login(Secret(token))).access_key_id == KEY
        return
    error = await refusal(logins, token)
    assert (error.reason, error.subject) == ("token-without-login", f"cluster:{SUBJECT}")
    assert found in str(error)


def test_a_rule_that_any_token_of_the_issuer_meets_is_refused() -> None:
    with pytest.raises(ValueError, match="any token of the issuer"):
        login(sub="*", ref="?*")


async def test_a_name_for_the_log_is_short_and_printable(world: World) -> None:
    logins = world.logins(login(aud="smtp:*"))
    found = await logins.login(Secret(world.token(sub="a\r\nb" + "x" * 1000)))
    assert found.subject == "cluster:a??b" + "x" * 196


# -- how long ----------------------------------------------------------------------------------


async def test_a_login_ends_with_its_token_also_if_it_is_remembered(world: World) -> None:
    logins, token = world.logins(), world.token()
    found = await logins.login(Secret(token))
    world.clock.move(629)
    assert await logins.login(Secret(token)) is found
    assert logins.allows(found)
    world.clock.move(1)
    assert not logins.allows(found)
    assert "expired" in str(await refusal(logins, token))


async def test_a_token_serves_no_longer_than_its_greatest_age(world: World) -> None:
    logins = world.logins(issuers=(issuer_named(max_token_age_s=60),))
    found = await logins.login(Secret(world.token()))
    assert found.ends_at == world.clock.now() + timedelta(seconds=90)


async def test_a_login_goes_on_with_other_rules_only_if_they_give_it_the_same_key(
    world: World,
) -> None:
    found = await world.logins().login(Secret(world.token()))
    assert world.logins(login(), login(sub="system:*")).allows(found)
    assert not world.logins(login(sub="other")).allows(found)
    assert not world.logins(login(access_key=OTHER_KEY)).allows(found)
    other = issuer_named("cluster", "https://other.example")
    assert not world.logins(issuers=(other,)).allows(found)


# -- the keys of the issuer --------------------------------------------------------------------


async def test_an_unknown_key_has_the_keys_fetched_again_but_rarely(world: World) -> None:
    logins = world.logins()
    logins.start()
    _ = await logins.login(Secret(world.token()))
    fresh = signing_key(number=3)
    token = signed(claims_at(world.clock.now()), key=fresh, key_id="three")
    for _ in range(5):
        assert "no such key" in str(await refusal(logins, token))
    assert len(world.fetches) == 1
    world.sets["cluster"] = {"keys": [public(fresh, "three")]}
    await move_loop(31)
    assert (await logins.login(Secret(token))).access_key_id == KEY
    assert len(world.fetches) == 2
    logins.close()
    await world.tasks.drain(1)


async def test_a_key_that_the_issuer_withdrew_ends_the_memory_of_its_tokens(
    world: World,
) -> None:
    logins, token = world.logins(), world.token()
    logins.start()
    _ = await logins.login(Secret(token))
    world.sets["cluster"] = {"keys": [public(signing_key(number=2), "two")]}
    await settle()  # the next look is planned
    await move_loop(301)
    await until(lambda: logins.keys["cluster"].version == 2)
    assert "no such key" in str(await refusal(logins, token))
    logins.close()
    await world.tasks.drain(1)


async def test_keys_serve_on_while_the_issuer_is_away(world: World) -> None:
    logins = world.logins()
    logins.start()
    _ = await logins.login(Secret(world.token()))
    world.sets["cluster"] = None
    await settle()  # the next look is planned
    await move_loop(301)
    await until(lambda: ("cluster", "the issuer answered 503") in world.troubles)
    assert (await logins.login(Secret(world.token(jti="another")))).access_key_id == KEY
    logins.close()
    await world.tasks.drain(1)


async def test_without_keys_a_login_has_to_be_tried_again(world: World) -> None:
    world.sets["cluster"] = None
    logins = world.logins()
    with pytest.raises(NoIssuerKeysError, match="503"):
        _ = await logins.login(Secret(world.token()))


@rows(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": []}',
        '{"keys": [1, {}, {"kty": "oct", "k": "AAAA"}]}',
        '{"keys": [], "keys": []}',
        json.dumps({"keys": [public(signing_key(), "one", use="enc")]}),
        json.dumps({"keys": [public(signing_key(), "one", key_ops=["sign"])]}),
        json.dumps({"keys": [{"kty": "RSA", "n": "_" * 170, "e": "AQAB"}]}),
        json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}),
        json.dumps({"keys": [public(signing_key(), "one")] * 101}),
    ],
)
def test_a_set_without_a_key_of_use_is_refused(text: str) -> None:
    with pytest.raises(BadKeysError):
        _ = read_keys(text.encode())


def test_keys_of_unknown_kinds_are_left_out() -> None:
    strange = {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}
    found = read_keys(json.dumps({"keys": [strange, public(signing_key(), "one")]}).encode())
    assert [key.key_id for key in found] == ["one"]


async def test_the_state_of_an_issuers_keys_is_shown(world: World) -> None:
    def shown() -> dict[str, float]:
        readings = {one.metric: one.value for one in keys.readings("cluster")}
        return {name.removeprefix("smtpgate_issuer_keys"): readings[name] for name in readings}

    keys = world.keys("cluster")
    assert shown() == {"": 0, "_up": 0, "_failures_total": 0}
    kept = world.sets["cluster"]
    world.sets["cluster"] = None
    keys.start()
    await move_loop(1)
    assert shown() == {"": 0, "_up": 0, "_failures_total": 1}
    world.sets["cluster"] = kept
    await move_loop(30)
    await until(lambda: (shown()[""], shown()["_up"]) == (1, 1))
    assert 0 <= shown()["_age_seconds"] < 5
    world.sets["cluster"] = None
    await move_loop(301)
    await until(lambda: not shown()["_up"])
    assert (shown()[""], shown()["_failures_total"]) == (1, 2)
    assert 290 < shown()["_age_seconds"] < 310
    keys.close()
