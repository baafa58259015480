"""The MAIL FROM domain of an identity, as the use cases, the worker and the path see it."""

import pytest

from smtpgate.admin import identities, mail_from
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.core.identity import MailFrom
from smtpgate.core.proof.mail_from import Mx
from smtpgate.directory.change import Actor, ConflictError, NotFoundError
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.live import new_live_directory
from smtpgate.gate.sinks import Sinks
from tests.support.admin import root, session_of
from tests.support.clock import MovableClock
from tests.support.dns_records import MX_HOST, Records, checks_by
from tests.support.tenants import add_account, add_identity
from tests.support.world import DELEGATE, OWNER

REF = IdentityRef(OWNER, "ses-example.com")
DOMAIN = "bounce.ses-example.com"
PUBLISHED = {DOMAIN: [Mx(10, MX_HOST)]}
SPF = {DOMAIN: [b"v=spf1 mx ~all"]}


@pytest.fixture
async def session(store: DirectoryStore, clock: MovableClock) -> Session:
    """The session of the owner's root; another account has the same identity."""
    for account_id in (OWNER, DELEGATE):
        await add_account(store, account_id)
        await add_identity(store, REF.name, account_id)
    return session_of(store, root(), clock=clock)


async def on_the_path(session: Session) -> list[MailFrom | None]:
    """The MAIL FROM domains of the identities of that name, as the path reads them."""
    directory = new_live_directory(session.config, session.store, MovableClock())
    return [one.mail_from for one in await directory.identities(REF.name)]


async def test_it_is_used_once_its_mx_record_is_published(session: Session) -> None:
    made = await mail_from.put(session, REF, "Bounce.ses-example.com")
    assert (made.domain, made.status, made.on_mx_failure) == (DOMAIN, "pending", "default")
    assert [record.kind for record in made.publish] == ["MX", "TXT"]
    assert await on_the_path(session) == [MailFrom(DOMAIN, False, False), None]
    found, spf = await mail_from.check(session, REF, checks_by(Records()))
    assert (found.status, found.problem) == (
        "pending",
        f"there is no MX record, and {MX_HOST} is expected",
    )
    assert spf == "there is no SPF record"
    found, spf = await mail_from.check(session, REF, checks_by(Records(SPF, PUBLISHED)))
    assert (found.status, found.problem, spf) == ("success", "", "")
    assert await on_the_path(session) == [MailFrom(DOMAIN, True, False), None]


async def test_the_worker_follows_the_record(session: Session, clock: MovableClock) -> None:
    await mail_from.put(session, REF, DOMAIN, "reject")
    dns = Records()
    worker = VerificationWorker(
        DirectoryIdentities(session.store, Actor("worker", "here"), "recheck"),
        checks_by(dns),
        clock=clock,
        chance=lambda: 0.5,
        events=Sinks(on_error=_fail),
        on_error=_fail,
    )

    async def after(hours: float) -> tuple[str, str]:
        clock.move(hours * 3600)
        await worker.round()
        details = await mail_from.get(session, REF)
        return details.status, details.problem

    dns.is_broken = True
    assert await after(1) == (
        "pending",
        f"{DOMAIN!r}: the name server did not answer in time",
    )
    dns.is_broken = False
    dns.mx_records.update(PUBLISHED)
    assert await after(1) == ("success", "")
    dns.mx_records.clear()
    gone = f"there is no MX record, and {MX_HOST} is expected"
    assert await after(8) == ("success", gone)
    assert await on_the_path(session) == [MailFrom(DOMAIN, True, True), None]
    assert (await after(73))[0] == "failed"
    assert await on_the_path(session) == [MailFrom(DOMAIN, False, True), None]
    assert (await mail_from.put(session, REF, DOMAIN)).status == "pending"


async def test_a_change_of_the_setting_keeps_the_state_and_another_domain_is_checked_first(
    session: Session,
) -> None:
    await mail_from.put(session, REF, DOMAIN)
    await mail_from.check(session, REF, checks_by(Records(SPF, PUBLISHED)))
    kept = await mail_from.put(session, REF, DOMAIN, "reject")
    assert (kept.status, kept.on_mx_failure) == ("success", "reject")
    other = await mail_from.put(session, REF, "other.ses-example.com", "reject")
    assert other.status == "pending"
    assert await on_the_path(session) == [
        MailFrom("other.ses-example.com", False, True),
        None,
    ]


async def test_a_domain_that_cannot_be_one_is_refused(session: Session) -> None:
    with pytest.raises(RefusedChangeError, match="is no subdomain of"):
        await mail_from.put(session, REF, "bounce.example.org")
    await add_identity(session.store, "mail.ses-example.com", DELEGATE)
    await add_identity(session.store, "me@news.ses-example.com", DELEGATE)
    for taken in ("mail.ses-example.com", "news.ses-example.com"):
        with pytest.raises(ConflictError, match="is a verified identity, or the domain of one"):
            await mail_from.put(session, REF, taken)
    await add_identity(session.store, DOMAIN, DELEGATE, state="pending")
    await mail_from.put(session, REF, DOMAIN)
    await mail_from.put(session_of(session.store), IdentityRef(DELEGATE, REF.name), DOMAIN)


async def test_it_is_removed_alone_or_with_its_identity(session: Session) -> None:
    with pytest.raises(NotFoundError, match="has no MAIL FROM domain"):
        await mail_from.get(session, REF)
    for remove in (mail_from.delete, identities.delete):
        await mail_from.put(session, REF, DOMAIN)
        await remove(session, REF)
        with pytest.raises(NotFoundError):
            await mail_from.get(session, REF)
    with pytest.raises(NotFoundError):
        await mail_from.check(session, REF, checks_by(Records()))


def _fail(error: BaseException) -> None:
    raise error


async def test_a_check_needs_a_domain_and_says_if_its_spf_record_could_not_be_read(
    session: Session,
) -> None:
    with pytest.raises(NotFoundError):
        await mail_from.check(session, REF, checks_by(Records()))
    await mail_from.put(session, REF, DOMAIN)
    dns = Records()
    dns.is_broken = True
    found, spf = await mail_from.check(session, REF, checks_by(dns))
    assert found.status == "pending"
    assert spf.startswith("the SPF record was not found: ")
