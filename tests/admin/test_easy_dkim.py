"""Easy DKIM and keys that owners bring, from the first call to the first signature."""

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpgate.admin import dkim, easy_dkim, email_identities, identities, tags
from smtpgate.admin.easy_dkim import DkimSettings
from smtpgate.admin.email_identities import NewIdentity
from smtpgate.admin.errors import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.admin.refs import IdentityRef, TaggedRef
from smtpgate.admin.session import OPERATOR, Session
from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.verification import PATIENCE
from smtpgate.directory.dkim import dkim_keys_of
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import generate_private_key
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.dns_records import Records, checks_by
from tests.support.tenants import add_account, add_identity, raw, signing_key
from tests.support.topics import add_set
from tests.support.verification import worker_of
from tests.support.world import OWNER, REGION

DOMAIN: Final = IdentityRef(OWNER, "ses-example.com")
NEW: Final = IdentityRef(OWNER, "new.example.org")


def brought(bits: int, form: serialization.PrivateFormat) -> str:
    """A private key as clients of SES send it."""
    key = rsa.generate_private_key(65537, bits)
    der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    return base64.b64encode(der).decode()


PKCS8: Final = brought(2048, serialization.PrivateFormat.PKCS8)
PKCS1: Final = brought(2048, serialization.PrivateFormat.TraditionalOpenSSL)


@pytest.fixture
async def session(store: DirectoryStore, clock: MovableClock) -> Session:
    """The session of an account's root with a domain."""
    await add_account(store, OWNER)
    await add_identity(store, DOMAIN.name, OWNER)
    return session_of(store, root(), clock=clock)


def publish(dns: Records, records: Sequence[DnsRecord]) -> None:
    for record in records:
        dns.txt_records[record.name] = [record.value.encode()]


async def signing(session: Session, ref: IdentityRef = DOMAIN) -> list[str]:
    """The selectors of the keys that sign."""
    async with session.store.reading() as connection:
        keys = await dkim_keys_of(connection, OWNER, REGION, ref.name)
    return [key.selector for key in keys if key.stage == "active"]


class Rounds:
    """A worker that asks the records of a test."""

    def __init__(self, session: Session, clock: MovableClock) -> None:
        self.dns = Records()
        self._clock = clock
        self._worker: VerificationWorker = worker_of(session.store, checks_by(self.dns), clock)

    async def after(self, period: timedelta = timedelta(hours=1)) -> None:
        """A round, some time later."""
        self._clock.move(period.total_seconds())
        await self._worker.round()


@pytest.fixture
def rounds(session: Session, clock: MovableClock) -> Rounds:
    """The worker."""
    return Rounds(session, clock)


async def test_easy_dkim_from_three_tokens_to_a_signature(
    session: Session, rounds: Rounds
) -> None:
    settings = await easy_dkim.begin(session, DOMAIN)
    assert (settings.status, settings.origin) == ("pending", "easy")
    assert [len(token) for token in settings.tokens] == [32] * 3
    assert (await easy_dkim.begin(session, DOMAIN)).tokens == settings.tokens
    await rounds.after()
    assert await signing(session) == []
    publish(rounds.dns, settings.publish[1:])
    await rounds.after()
    (selector,) = await signing(session)
    assert selector in settings.tokens[1:]
    assert (await easy_dkim.get(session, DOMAIN)).status == "success"
    # Another takes its place when its record is gone.
    del rounds.dns.txt_records[f"{selector}._domainkey.{DOMAIN.name}"]
    await rounds.after(timedelta(hours=2))
    (other,) = await signing(session)
    assert other in settings.tokens[1:]
    assert other != selector


async def test_tokens_that_nobody_published_are_looked_for_again(
    session: Session, rounds: Rounds, clock: MovableClock
) -> None:
    first = await easy_dkim.begin(session, DOMAIN)
    await rounds.after(PATIENCE)
    assert (await easy_dkim.get(session, DOMAIN)).status == "failed"
    again = await easy_dkim.begin(session, DOMAIN)
    assert (again.tokens, again.status) == (first.tokens, "pending")
    publish(rounds.dns, again.publish)
    await rounds.after(timedelta(seconds=1))
    assert len(await signing(session)) == 1


async def test_a_key_of_a_person_waits_for_its_step(session: Session, rounds: Rounds) -> None:
    key = await signing_key(session.store, "mine", DOMAIN.name, OWNER, stage="pending")
    publish(rounds.dns, [DnsRecord(key.dns_name, key.record)])
    await easy_dkim.begin(session, DOMAIN)
    await rounds.after()
    assert await signing(session) == []


async def test_a_key_that_a_person_activates_goes_on_to_sign(
    session: Session, rounds: Rounds
) -> None:
    easy = await easy_dkim.begin(session, DOMAIN)
    publish(rounds.dns, easy.publish)
    await rounds.after()
    pem = generate_private_key()
    mine = await dkim.import_key(session, DOMAIN, "mine", pem)
    await dkim.generate(session, DOMAIN, "ed25519", "small")
    await dkim.activate(session, DOMAIN, "small", rounds.dns, force=True)
    assert (await easy_dkim.get(session, DOMAIN)).origin == "easy"
    publish(rounds.dns, [mine.publish])
    await dkim.activate(session, DOMAIN, "mine", rounds.dns)
    await rounds.after()
    assert await signing(session) == ["mine", "small"]
    settings = await easy_dkim.get(session, DOMAIN)
    assert (settings.origin, settings.status) == ("manual", "success")


async def test_a_key_that_is_brought_replaces_easy_dkim_and_back(
    session: Session, rounds: Rounds
) -> None:
    easy = await easy_dkim.begin(session, DOMAIN)
    publish(rounds.dns, easy.publish)
    await rounds.after()
    (first,) = await signing(session)
    own = await easy_dkim.put_signing_key(session, DOMAIN, "Mail1", PKCS8)
    assert (own.status, own.origin, own.tokens) == ("pending", "external", ("mail1",))
    assert await signing(session) == [first]
    assert await easy_dkim.put_signing_key(session, DOMAIN, "mail1", PKCS8) == own
    other = await easy_dkim.put_signing_key(session, DOMAIN, "mail2", PKCS1)
    assert other.tokens == ("mail2",)
    publish(rounds.dns, (*own.publish, *other.publish))
    await rounds.after()
    assert await signing(session) == ["mail2"]
    with pytest.raises(ConflictError, match="choose another selector"):
        await easy_dkim.put_signing_key(session, DOMAIN, "mail2", PKCS8)
    back = await easy_dkim.begin(session, DOMAIN)
    assert set(back.tokens) == set(easy.tokens)
    await rounds.after()
    (second,) = await signing(session)
    assert second in easy.tokens


async def test_keys_that_are_refused(session: Session) -> None:
    small = brought(1024, serialization.PrivateFormat.PKCS8)
    for selector, key, words in (
        ("a_b", PKCS8, "DomainSigningSelector: .* 1 to 63"),
        ("a", small, "1024 bits; 2048 or more"),
        ("a", "!", "not the base64"),
        ("a", "AAAA", "not the base64"),
        ("a", PKCS8[:-8], "not the base64"),
    ):
        with pytest.raises(RefusedChangeError, match=words):
            await easy_dkim.put_signing_key(session, DOMAIN, selector, key)
    assert (await easy_dkim.get(session, DOMAIN)).status == "not-started"
    with pytest.raises(RefusedChangeError, match="only signed mail"):
        await easy_dkim.set_enabled(session, DOMAIN, is_enabled=False)


async def test_an_identity_is_made_whole_or_not_at_all(session: Session) -> None:
    await add_set(session.store, account_id=OWNER)
    with pytest.raises(NotFoundError):
        await email_identities.create(session, NEW, NewIdentity(configuration_set="none"))
    with pytest.raises(NotFoundError):
        await identities.get(session, NEW)
    wanted = NewIdentity(
        signing_key=("mail", PKCS8), configuration_set="spring", tags={"team": "news"}
    )
    await email_identities.create(session, NEW, wanted)
    settings: DkimSettings = await easy_dkim.get(session, NEW)
    assert settings.tokens == ("mail",)
    tagged = TaggedRef(OWNER, "identity", NEW.name)
    assert await tags.of(session, tagged) == {"team": "news"}
    with pytest.raises(ConflictError):
        await email_identities.create(session, NEW, NewIdentity())
    await tags.put(session, tagged, {f"t{number}": "" for number in range(49)})
    with pytest.raises(RefusedChangeError, match="50 are the most"):
        await tags.put(session, tagged, {"one": "more"})
    await tags.drop(session, tagged, ["team", "absent"])
    assert len(await tags.of(session, tagged)) == 49
    await identities.delete(session, NEW)
    assert await raw(session.store, "SELECT * FROM resource_tags") == []


async def test_a_key_that_waits_gives_its_selector_to_another(session: Session) -> None:
    first = await easy_dkim.put_signing_key(session, DOMAIN, "mail1", PKCS8)
    other = await easy_dkim.put_signing_key(session, DOMAIN, "mail1", PKCS1)
    assert other.tokens == first.tokens == ("mail1",)
    assert other.publish != first.publish


async def test_an_address_has_the_keys_of_its_domain_and_no_switch(session: Session) -> None:
    there, elsewhere = (IdentityRef(OWNER, f"joe@{name}") for name in (DOMAIN.name, NEW.name))
    for ref in (there, elsewhere):
        await email_identities.create(session, ref, NewIdentity())
    easy = await easy_dkim.begin(session, DOMAIN)
    assert (await easy_dkim.get(session, there)).tokens == easy.tokens
    assert (await easy_dkim.get(session, elsewhere)).tokens == ()
    wanted = NewIdentity(signing_key=("mail", PKCS8))
    with pytest.raises(RefusedChangeError, match="only a domain has a signing key"):
        await email_identities.create(session, IdentityRef(OWNER, "a@example.com"), wanted)
    free = gate_with(session, require=False)
    with pytest.raises(RefusedChangeError, match="where signing can be switched off"):
        await easy_dkim.set_enabled(free, there, is_enabled=False)
    for is_enabled in (True, False, False):
        await easy_dkim.set_enabled(free, DOMAIN, is_enabled=is_enabled)
    assert not (await easy_dkim.get(free, DOMAIN)).is_enabled


async def test_the_operator_publishes_the_keys_of_easy_dkim_in_its_zone(
    session: Session,
) -> None:
    operator = replace(gate_with(session, hosted_zone="dkim.gate.example"), caller=OPERATOR)
    easy = await easy_dkim.begin(session, DOMAIN)
    await signing_key(session.store, "mine", DOMAIN.name, OWNER)
    found = [one async for page in easy_dkim.hosted(operator) for one in page]
    assert {one.name for one in found} == {
        f"{token}.dkim.gate.example" for token in easy.tokens
    }
    assert {one.value for one in found} == {one.value for one in easy.publish}


def gate_with(session: Session, **settings: object) -> Session:
    """The session at a gate with those settings of ``[signing]``."""
    signing = session.config.signing.model_copy(update=settings)
    return replace(session, config=session.config.model_copy(update={"signing": signing}))
