"""The use of suppression lists: which mailboxes are suppressed, and which lists events feed."""

from typing import Final

import pytest
from msgspec.structs import replace

from smtpgate.core.account import Account, SendingLimits
from smtpgate.core.address import parse_mailbox
from smtpgate.core.feedback.kinds import MAILBOX_FULL, NO_EMAIL, ON_ACCOUNT_LIST
from smtpgate.core.feedback.simulator import SIMULATOR_DOMAIN
from smtpgate.core.identity import Identity
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    Detail,
    EventRecipient,
    SendingEvent,
    sending_event,
)
from smtpgate.core.outbox.task import Carried, Destination, GivenUp, LeasedTask, Task
from smtpgate.core.suppression.lists import Reasons
from smtpgate.directory.configuration_sets import configuration_set, update_configuration_set
from smtpgate.directory.identities import identity, update_identity
from smtpgate.directory.list_carrier import ListCarrier
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppressing import DirectoryLists, lists_fed_by
from smtpgate.directory.suppression import ListKey, set_reasons, suppressed_page
from tests.support.directory import ACTOR, live
from tests.support.notifications import MAIL
from tests.support.suppression import suppress
from tests.support.tenants import ACME, OTHER, add_account, add_identity
from tests.support.topics import add_set
from tests.support.world import REGION

JANE: Final = "jane@example.org"
MAILBOX: Final = parse_mailbox("Jane@Example.org")
IDENTITY: Final = f"arn:aws:ses:{REGION}:{ACME}:identity/example.com"
# The delegate sends with the owner's identity.
SENT: Final = replace(MAIL, account_id=OTHER, owner_id=ACME, identity=IDENTITY)
SENDER: Final = Account(OTHER, "", SendingLimits(200, 1), has_suppressed=True)
NO_LIST: Final = replace(SENDER, has_suppressed=False)


@pytest.fixture(autouse=True)
async def tenants(store: DirectoryStore) -> None:
    """An owner with an identity, and a delegate with a configuration set."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_identity(store)
    await add_set(store, account_id=OTHER)


async def impose(store: DirectoryStore) -> None:
    """Have the owner's list used for delegates."""
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, "example.com")
        changes = {"suppresses_delegates": True}
        _ = await update_identity(change, row, changes, action="set-suppression")


async def choose(store: DirectoryStore, account_id: str, reasons: Reasons) -> None:
    async with store.changing(ACTOR) as change:
        await set_reasons(change, ListKey(account_id, REGION), reasons)


async def override(store: DirectoryStore, reasons: Reasons) -> None:
    async with store.changing(ACTOR) as change:
        row = await configuration_set(change.connection, OTHER, REGION, "spring")
        changes = {"suppressed_reasons": list(reasons)}
        _ = await update_configuration_set(change, row, changes)


async def opened(store: DirectoryStore) -> LiveDirectory:
    directory = live(store)
    await directory.catch_up()
    return directory


async def is_suppressed(
    store: DirectoryStore, sender: Account = SENDER, configuration_set: str = ""
) -> bool:
    directory = await opened(store)
    found: list[Identity] = list(await directory.identities("example.com"))
    args = sender, configuration_set, found[0], [MAILBOX]
    return await DirectoryLists(directory).suppressed(*args) == {MAILBOX}


async def test_the_sender_s_list_suppresses_whatever_the_identity(
    store: DirectoryStore,
) -> None:
    await suppress(store, JANE, account_id=OTHER)
    assert await is_suppressed(store)


async def test_the_owner_s_list_does_so_only_where_the_owner_chose_it(
    store: DirectoryStore,
) -> None:
    await suppress(store, JANE)
    assert not await is_suppressed(store)
    await impose(store)
    assert await is_suppressed(store)
    assert await is_suppressed(store, NO_LIST)
    await choose(store, ACME, ("COMPLAINT",))
    assert not await is_suppressed(store)


async def test_a_configuration_set_has_its_own_reasons(store: DirectoryStore) -> None:
    await suppress(store, JANE, account_id=OTHER)
    await override(store, ())
    assert await is_suppressed(store)
    assert not await is_suppressed(store, configuration_set="spring")
    await choose(store, OTHER, ())
    await override(store, ("BOUNCE",))
    assert not await is_suppressed(store)
    assert await is_suppressed(store, configuration_set="spring")


def event(detail: Detail, address: str = JANE, set_name: str = "") -> SendingEvent:
    mail = replace(SENT, configuration_set=set_name)
    return sending_event(MAIL.sent_at, mail, [EventRecipient(address)], detail)


HARD: Final = BounceDetail(NO_EMAIL)
ABUSE: Final = ComplaintDetail(feedback_type="abuse")


async def fed(store: DirectoryStore, one: SendingEvent) -> list[str]:
    """The accounts whose lists an event feeds."""
    return [to.name for to in await lists_fed_by(await opened(store), one)]


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (event(HARD), [OTHER]),
        (event(ABUSE), [OTHER]),
        (event(BounceDetail(MAILBOX_FULL)), []),
        (event(BounceDetail(ON_ACCOUNT_LIST)), []),
        (event(HARD, f"bounce@{SIMULATOR_DOMAIN}"), []),
    ],
)
async def test_the_list_of_the_account_that_sent_is_fed(
    store: DirectoryStore, one: SendingEvent, wanted: list[str]
) -> None:
    assert await fed(store, one) == wanted


async def test_lists_are_fed_for_the_reasons_of_their_accounts(store: DirectoryStore) -> None:
    await impose(store)
    assert await fed(store, event(HARD)) == [OTHER, ACME]
    await choose(store, ACME, ("COMPLAINT",))
    assert await fed(store, event(HARD)) == [OTHER]
    await override(store, ("COMPLAINT",))
    assert await fed(store, event(HARD, set_name="spring")) == []
    assert await fed(store, event(ABUSE, set_name="spring")) == [OTHER, ACME]


async def carried(store: DirectoryStore, account_id: str, one: SendingEvent) -> object:
    task = Task(one, Destination("list", account_id, account_id))
    return await ListCarrier(store, "gate.example").carry(LeasedTask(task, 1, MAIL.sent_at))


async def test_a_task_puts_the_recipients_on_the_list_once(store: DirectoryStore) -> None:
    for detail in (ABUSE, HARD, HARD):
        assert isinstance(
            await carried(store, OTHER, event(detail, "Jane@example.org")), Carried
        )
    async with store.reading() as connection:
        (entry,) = await suppressed_page(connection, ListKey(OTHER, REGION))
    # A bounce that follows a complaint leaves it a complaint.
    assert (entry.address, entry.reason) == (JANE, "COMPLAINT")
    assert entry.message_id == MAIL.message_id


@pytest.mark.parametrize(
    ("account_id", "one", "problem"),
    [
        ("333333333333", event(HARD), "there is no account 333333333333"),
        (OTHER, event(HARD, "no address"), "no recipient has an address"),
        (OTHER, event(BounceDetail(MAILBOX_FULL)), "a Bounce puts no address on a list"),
    ],
)
async def test_a_task_that_cannot_succeed_is_given_up(
    store: DirectoryStore, account_id: str, one: SendingEvent, problem: str
) -> None:
    assert await carried(store, account_id, one) == GivenUp(problem)
