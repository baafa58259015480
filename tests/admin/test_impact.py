"""A proposed policy, weighed by an operator and by the owner of its identity."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from smtpgate.admin import policies
from smtpgate.admin.errors import NotAuthorizedError, NotFoundError, RefusedChangeError
from smtpgate.admin.impact import impact, proposal_of
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.preview import PreviewSession
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import OPERATOR, Operator
from smtpgate.core.account import Principal
from smtpgate.core.arn import IdentityArn
from smtpgate.core.whatif.impact import Impact
from smtpgate.directory.principals import DirectoryPrincipals
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.live import new_live_directory
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from tests.support.admin import config, root, session_of
from tests.support.clock import MovableClock
from tests.support.journal import journal_in, open_journal, submission
from tests.support.tenants import add_account, add_identity, add_user
from tests.support.world import DELEGATE, IDENTITY, OWNER, PAUSED, grant

ARN = IdentityArn.parse(IDENTITY)
CEO = {"StringEquals": {"ses:FromAddress": "ceo@ses-example.com"}}


@pytest.fixture
async def written(
    store: DirectoryStore, clock: MovableClock, tmp_path: Path
) -> AsyncIterator[LiveJournal]:
    """A directory in which the delegate may send, and a journal with two of its messages.

    The second used another account's identity of the same name.
    """
    for account_id in (OWNER, DELEGATE, PAUSED):
        await add_account(store, account_id)
        if account_id != DELEGATE:
            await add_identity(store, ARN.name, account_id)
    await add_user(store, "mailer", DELEGATE)
    ref = IdentityRef(OWNER, ARN.name)
    await policies.put(session_of(store), ref, "marketing", grant())
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as opened:
        for identity in (IDENTITY, IDENTITY.replace(OWNER, PAUSED)):
            await opened.finish(submission(clock, identity=identity))
            clock.move(60)
        yield opened


async def weighed(
    store: DirectoryStore,
    written: LiveJournal,
    clock: MovableClock,
    caller: Operator | Principal,
    identity: IdentityArn = ARN,
) -> Impact:
    """The impact of a policy that lets only the board send with the owner's identity."""
    directory = new_live_directory(config(), store, clock)
    asked = PreviewSession(
        config=config(),
        clock=clock,
        caller=caller,
        directory=directory,
        principals=DirectoryPrincipals(store, directory.loader),
    )
    reader = JournalReader(written.store, written.store.key())
    past = JournalSession(config=config(), clock=clock, caller=caller, reader=reader)
    document = grant(Condition=CEO, Resource=str(identity)).encode()
    proposal = proposal_of(identity, "marketing", document)
    return await impact(asked, past, proposal, since=clock.now() - timedelta(days=1))


async def test_an_operator_weighs_all_messages_and_an_owner_its_own_view(
    store: DirectoryStore, written: LiveJournal, clock: MovableClock
) -> None:
    of_all = await weighed(store, written, clock, OPERATOR)
    of_owner = await weighed(store, written, clock, root())
    assert (of_all.looked_at, of_owner.looked_at) == (2, 1)
    assert sum(of_owner.newly_refused.values()) == 1
    (change,) = of_owner.examples
    assert (change.record.username, change.record.tags) == ("", ())
    assert {change.record.username for change in of_all.examples} == {"AKIAIOSFODNN7EXAMPLE"}


async def test_others_weigh_nothing(
    store: DirectoryStore, written: LiveJournal, clock: MovableClock
) -> None:
    with pytest.raises(NotAuthorizedError):
        await weighed(store, written, clock, root(DELEGATE))
    others = IdentityArn("aws", "us-east-1", DELEGATE, "ses-example.com")
    with pytest.raises(NotAuthorizedError):
        await weighed(store, written, clock, root(), others)
    with pytest.raises(NotFoundError, match="the directory has no"):
        await weighed(
            store, written, clock, OPERATOR, IdentityArn.parse(f"{IDENTITY[:-4]}.org")
        )


@pytest.mark.parametrize("document", ["{", grant(Resource="*"), grant(Effect="Maybe")])
def test_what_could_not_be_attached_is_no_proposal(document: str) -> None:
    with pytest.raises(RefusedChangeError):
        proposal_of(ARN, "marketing", document.encode())
