"""The rights of callers: every function of ``smtpgate/admin/`` has a row here.

A row says what the caller needs at least, and how the function is called. Each function is
tried by an operator, the account's root, a user with exactly the actions of the row, a user
with every other action, and strangers of another account, who must learn nothing.
"""

import asyncio
import importlib
import inspect
import pkgutil
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

import smtpgate.admin
from smtpgate.admin import (
    accounts,
    audit,
    configuration_sets,
    dkim,
    documents,
    easy_dkim,
    email_identities,
    identities,
    journal,
    key_watch,
    keys,
    mail_from,
    maintenance,
    notices,
    notifications,
    outbox,
    paging,
    policies,
    preview,
    quotas,
    reputation,
    suppression,
    tags,
    templates,
    topics,
    users,
    verification,
)
from smtpgate.admin.audit import AuditFilter
from smtpgate.admin.documents import Proposal
from smtpgate.admin.email_identities import NewIdentity
from smtpgate.admin.errors import (
    CodeNotSentError,
    CodeRefusedError,
    ConfirmationNotSentError,
    NotAuthorizedError,
    RefusedChangeError,
)
from smtpgate.admin.explained import explained
from smtpgate.admin.impact import impact as impact_of
from smtpgate.admin.impact import proposal_of
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.preview import MessageToTry, PreviewSession
from smtpgate.admin.quotas import QuotaRef
from smtpgate.admin.refs import (
    AccessKeyRef,
    CapRef,
    ConfigurationSetRef,
    DelegateRef,
    IdentityRef,
    OwnerRef,
    SubscriptionRef,
    TaggedRef,
    TemplateRef,
    TopicRef,
    UserRef,
)
from smtpgate.admin.session import OPERATOR, Operator, Session
from smtpgate.admin.statistics import DailyQuestion, daily_sums, send_statistics
from smtpgate.core.account import Principal
from smtpgate.core.api.rendering import Parts
from smtpgate.core.arn import IdentityArn
from smtpgate.core.history.search import Search
from smtpgate.core.message.author import parse_authors
from smtpgate.core.notification.settings import Subscription
from smtpgate.core.proof.dkim_stages import StageError
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.secret import Secret
from smtpgate.core.suppression.lists import SuppressedAddress
from smtpgate.core.whatif.simulation import read_simulation
from smtpgate.directory.principals import DirectoryPrincipals
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.templates import TemplateRow, create_template
from smtpgate.gate.databases import other_database
from smtpgate.gate.live import new_live_directory
from smtpgate.journal.reader import JournalReader
from smtpgate.outbox.kept import TaskFilter
from smtpgate.ports import Upstream
from smtpgate.sql.database import sqlite_url
from tests.support.admin import (
    allow,
    allow_all_but,
    root,
    session_of,
    user,
)
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, open_store
from tests.support.dns_records import Records, checks_by
from tests.support.journal import journal_in
from tests.support.journal import open_store as open_journal_store
from tests.support.rated_mail import SentMail
from tests.support.reputations import pause
from tests.support.rows import rows
from tests.support.suppression import suppress
from tests.support.tenants import (
    PEM,
    add_account,
    add_identity,
    add_key,
    add_mail_from,
    add_user,
    signing_key,
)
from tests.support.topics import add_destination, add_set, add_topic, subscribe
from tests.support.upstream_server import open_upstream, relay_to
from tests.support.world import DELEGATE, IDENTITY, OWNER, grant

TOPIC = TopicRef(OWNER, "bounces")
TOPIC_ARN = f"arn:aws:sns:us-east-1:{OWNER}:bounces"
ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
WHSEC = Secret("whsec_" + "A" * 32)
PAUSE_DELEGATE = (
    "ses:PutIdentityPolicy|ses:UpdateEmailIdentityPolicy"
    "|ses:UpdateReputationEntityCustomerManagedStatus"
)
OTHER = "777777777777"
USERS_KEY, ROOTS_KEY = "AKIAUSERSUSERSUSERS0", "AKIAROOTROOTROOTROOT"


@dataclass(frozen=True, slots=True)
class Names:
    """The objects that the functions are called with."""

    account_id: str = OWNER
    user: UserRef = field(default=UserRef(OWNER, "mailer"))
    key_id: str = USERS_KEY
    roots_key_id: str = ROOTS_KEY
    domain: IdentityRef = field(default=IdentityRef(OWNER, "ses-example.com"))
    address: IdentityRef = field(default=IdentityRef(OWNER, "me@example.com"))
    paused: IdentityRef = field(default=IdentityRef(OWNER, "paused.example"))
    selector: str = "one"
    topic: TopicRef = field(default=TopicRef(OWNER, "bounces"))
    subscription: SubscriptionRef = field(default=SubscriptionRef(TOPIC, f"{TOPIC_ARN}:{ID}"))
    set: ConfigurationSetRef = field(default=ConfigurationSetRef(OWNER, "spring"))
    listed: str = "jane@example.org"

    @property
    def new_topic(self) -> TopicRef:
        """A topic that is not there."""
        return TopicRef(self.account_id, "new")

    @property
    def new_set(self) -> ConfigurationSetRef:
        """A configuration set that is not there."""
        return ConfigurationSetRef(self.account_id, "new")

    @property
    def tagged(self) -> TaggedRef:
        """The domain as something with tags."""
        return TaggedRef(self.account_id, "identity", self.domain.name)

    @property
    def tagged_topic(self) -> TaggedRef:
        """The topic as something with tags."""
        return TaggedRef(self.account_id, "topic", self.topic.name)

    @property
    def root(self) -> OwnerRef:
        """The account's root."""
        return OwnerRef(self.account_id, None)

    @property
    def owner(self) -> OwnerRef:
        """The user as an owner of keys."""
        return OwnerRef(self.user.account_id, self.user.name)


THERE: Final = Names()
# The same with nothing behind the names.
MISSING: Final = Names(
    user=UserRef(OWNER, "absent"),
    key_id="AKIANOBODYNOBODYNOBO",
    roots_key_id="AKIANOTHINGNOTHINGNO",
    domain=IdentityRef(OWNER, "missing.example"),
    address=IdentityRef(OWNER, "nobody@example.com"),
    paused=IdentityRef(OWNER, "missing.example"),
    selector="none",
    topic=TopicRef(OWNER, "missing"),
    subscription=SubscriptionRef(
        TopicRef(OWNER, "missing"), TOPIC_ARN.replace("bounces", f"missing:{ID}")
    ),
    set=ConfigurationSetRef(OWNER, "missing"),
    listed="absent@example.org",
)


class Unreachable:
    """Reaches no endpoint."""

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        """Fail."""
        return "no connection"


class NoResolver:
    """A DNS without any records."""

    async def txt(self, name: str) -> Sequence[bytes]:
        """Nothing."""
        return ()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """An upstream that takes every mail."""
    async with open_upstream() as server, relay_to(server) as relayed:
        yield relayed


Call = Callable[[Session, Names], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A function, what a caller needs at least, and how the function is called.

    ``needs`` is "operator", "root", or the actions of which a user needs any one; a user needs
    one of each tuple.
    """

    function: Callable[..., Any]
    needs: str | tuple[tuple[str, ...], ...]
    call: Call


def row(function: Callable[..., Any], needs: str, call: Call) -> Row:
    """A row; alternative actions are separated by bars, further ones by blanks."""
    if needs in ("operator", "root"):
        return Row(function, needs, call)
    return Row(function, tuple(tuple(one.split("|")) for one in needs.split()), call)


async def send_code(session: Session, names: Names) -> None:
    async with upstream() as relayed:
        await verification.send_code(session, names.address, relayed)


class StopFollowingError(Exception):
    """The end of a test that follows what comes."""


async def stop() -> None:
    raise StopFollowingError


@asynccontextmanager
async def journal_session(session: Session) -> AsyncIterator[JournalSession]:
    """The same caller in a journal without any records, beside the directory."""
    folder = Path(session.store.database.url.database or "").parent
    async with open_journal_store(journal_in(folder), folder) as opened:
        yield JournalSession(
            config=session.config,
            clock=session.clock,
            caller=session.caller,
            reader=JournalReader(opened, opened.key()),
        )


def preview_session(session: Session) -> PreviewSession:
    """The same caller with questions to the directory."""
    directory = new_live_directory(session.config, session.store, session.clock)
    return PreviewSession(
        config=session.config,
        clock=session.clock,
        caller=session.caller,
        directory=directory,
        principals=DirectoryPrincipals(session.store, directory.loader),
    )


async def in_journal(session: Session, call: Callable[[JournalSession], Any]) -> None:
    """Call a function that is given a session in the journal."""
    async with journal_session(session) as past:
        found = call(past)
        if isinstance(found, AsyncIterator):
            assert [one async for one in found] == []
        else:
            await found


async def impact(session: Session, names: Names) -> None:
    identity = IdentityArn("aws", "us-east-1", names.account_id, names.domain.name)
    proposal = proposal_of(identity, "p", policy(identity).encode())
    async with journal_session(session) as past:
        await impact_of(preview_session(session), past, proposal, since=None)


def policy(identity: IdentityArn) -> str:
    """A policy for an identity."""
    return grant(Resource=str(identity))


async def save(session: Session, names: Names, version: int | None) -> None:
    await policies.put(session, names.domain, "rights", GRANT, version=version)


async def propose(session: Session, names: Names = THERE) -> Proposal:
    with TemporaryDirectory() as folder:
        path = Path(folder, "accounts.toml")
        path.write_text("[accounts.123456789012]\n")
        return await documents.propose(session, path, prune=False, force=False)


async def apply(session: Session, names: Names) -> None:
    proposal = await propose(session_of(session.store))
    await documents.apply(session, proposal)


async def export(session: Session, names: Names) -> None:
    with TemporaryDirectory() as folder:
        await documents.export(session, Path(folder, "export"))


async def back_up(session: Session, names: Names) -> None:
    with TemporaryDirectory() as folder:
        await maintenance.back_up(session, Path(folder, "copy"))


async def copy(session: Session, names: Names) -> None:
    with TemporaryDirectory() as folder:
        target = other_database(f"sqlite:///{folder}/copy", None, [])
        try:
            await maintenance.copy(session, target, lambda table, rows: None)
        finally:
            await target.close()


def limited(
    function: Callable[..., Any], call: Callable[[Session, QuotaRef], Any]
) -> Sequence[Row]:
    """The rows of a function that changes limits: of each kind of subject."""
    return (
        row(function, "operator", lambda s, n: call(s, n.root)),
        row(function, "root", lambda s, n: call(s, n.owner)),
        row(function, "root", lambda s, n: call(s, AccessKeyRef(n.key_id))),
        row(function, "root", lambda s, n: call(s, CapRef(n.domain, DELEGATE))),
    )


GRANT: Final = grant()
MAY_SEND: Final = '{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'
MESSAGE: Final = MessageToTry(
    authors=parse_authors("a@ses-example.com", smtputf8=True), recipients=["b@example.net"]
)
REQUEST: Final = (
    f'{{"sender": {{"account": "{OWNER}", "user": null}}, "context": {{}}, '
    f'"identity_arn": "{IDENTITY}"}}'
).encode()
SEE: Final = "ses:GetMessageInsights"
ENTRY: Final = SuppressedAddress("new@example.org", "BOUNCE", MovableClock().now())
READ_POLICIES: Final = "iam:GetUserPolicy|iam:ListUserPolicies"
READ_GRANTS: Final = "ses:GetIdentityPolicies|ses:GetEmailIdentityPolicies|ses:GetEmailIdentity"
READ_TAGS: Final = "ses:ListTagsForResource|ses:GetEmailIdentity|ses:GetConfigurationSet"
CREATE: Final = "ses:CreateEmailIdentity"
SIGN: Final = "ses:PutEmailIdentityDkimSigningAttributes"
READ_MAIL_FROM: Final = "ses:GetIdentityMailFromDomainAttributes|ses:GetEmailIdentity"
READ_DKIM: Final = "ses:GetIdentityDkimAttributes|ses:GetEmailIdentity"
LIST: Final = "sns:ListSubscriptions|sns:ListSubscriptionsByTopic"
READ_TOPICS: Final = "ses:GetIdentityNotificationAttributes|ses:GetEmailIdentity"
READ_KEYS: Final = "iam:ListAccessKeys|iam:GetAccessKeyLastUsed"
GREETING: Final = Parts("Hello {{name}}", "Hello.")
ROWS: Final = (
    row(accounts.create, "operator", lambda s, n: accounts.create(s, "123456789012", {})),
    row(accounts.pages, "operator", lambda s, n: accounts.pages(s)),
    row(accounts.get, "ses:GetAccount", lambda s, n: accounts.get(s, n.account_id)),
    row(
        accounts.update,
        "operator",
        lambda s, n: accounts.update(s, n.account_id, {"max_24h_send": -1}),
    ),
    row(accounts.pause, "operator", lambda s, n: accounts.pause(s, n.account_id, "unpaid")),
    row(accounts.resume, "operator", lambda s, n: accounts.resume(s, n.account_id)),
    row(
        accounts.may_send,
        "ses:GetAccountSendingEnabled|ses:GetAccount",
        lambda s, n: accounts.may_send(s, n.account_id),
    ),
    row(
        accounts.set_sending,
        "ses:UpdateAccountSendingEnabled|ses:PutAccountSendingAttributes",
        lambda s, n: accounts.set_sending(s, n.account_id, is_sending=False),
    ),
    row(
        accounts.put_details,
        "ses:PutAccountDetails",
        lambda s, n: accounts.put_details(s, n.account_id, {"MailType": "MARKETING"}),
    ),
    row(
        templates.create,
        "ses:CreateTemplate|ses:CreateEmailTemplate",
        lambda s, n: templates.create(s, TemplateRef(n.account_id, "new"), GREETING),
    ),
    row(
        templates.get,
        "ses:GetTemplate|ses:GetEmailTemplate",
        lambda s, n: templates.get(s, TemplateRef(n.account_id, "t")),
    ),
    row(
        templates.update,
        "ses:UpdateTemplate|ses:UpdateEmailTemplate",
        lambda s, n: templates.update(s, TemplateRef(n.account_id, "t"), GREETING),
    ),
    row(
        templates.delete,
        "ses:DeleteTemplate|ses:DeleteEmailTemplate",
        lambda s, n: templates.delete(s, TemplateRef(n.account_id, "t")),
    ),
    row(
        templates.to_render,
        "ses:TestRenderTemplate|ses:TestRenderEmailTemplate",
        lambda s, n: templates.to_render(s, TemplateRef(n.account_id, "t")),
    ),
    row(
        templates.to_send,
        "ses:SendTemplatedEmail|ses:SendBulkTemplatedEmail",
        lambda s, n: templates.to_send(s, TemplateRef(n.account_id, "t")),
    ),
    row(
        templates.pages,
        "ses:ListTemplates|ses:ListEmailTemplates",
        lambda s, n: templates.pages(s, n.account_id),
    ),
    row(accounts.delete, "operator", lambda s, n: accounts.delete(s, n.account_id)),
    row(
        users.create,
        "iam:CreateUser iam:TagUser iam:PutUserPolicy",
        lambda s, n: users.create(s, UserRef(n.account_id, "new"), {"tags": {"team": "news"}}),
    ),
    row(
        users.create,
        "iam:CreateUser",
        lambda s, n: users.create(s, UserRef(n.account_id, "new"), {}, may_send=False),
    ),
    row(users.pages, "iam:ListUsers", lambda s, n: users.pages(s, n.account_id)),
    row(users.get, "iam:GetUser", lambda s, n: users.get(s, n.user)),
    row(users.update, "iam:UpdateUser", lambda s, n: users.update(s, n.user, {"path": "/b/"})),
    row(
        users.update,
        "iam:TagUser iam:UntagUser",
        lambda s, n: users.update(s, n.user, {"tags": {}}),
    ),
    row(
        users.delete,
        "iam:DeleteUser iam:DeleteUserPolicy iam:DeleteAccessKey",
        lambda s, n: users.delete(s, n.user),
    ),
    row(keys.create, "iam:CreateAccessKey", lambda s, n: keys.create(s, n.owner, {})),
    row(keys.create, "root", lambda s, n: keys.create(s, n.root, {})),
    row(keys.pages, READ_KEYS, lambda s, n: keys.pages(s, n.account_id)),
    row(keys.pages, READ_KEYS, lambda s, n: keys.pages(s, n.account_id, n.user.name)),
    row(keys.get, READ_KEYS, lambda s, n: keys.get(s, n.key_id)),
    row(keys.get, "root", lambda s, n: keys.get(s, n.roots_key_id)),
    row(keys.enable, "iam:UpdateAccessKey", lambda s, n: keys.enable(s, n.key_id)),
    row(keys.enable, "root", lambda s, n: keys.enable(s, n.roots_key_id)),
    row(keys.disable, "iam:UpdateAccessKey", lambda s, n: keys.disable(s, n.key_id)),
    row(keys.disable, "root", lambda s, n: keys.disable(s, n.roots_key_id)),
    row(
        keys.update,
        "iam:UpdateAccessKey",
        lambda s, n: keys.update(s, n.key_id, {"networks": ["192.0.2.0/24"]}),
    ),
    row(keys.update, "root", lambda s, n: keys.update(s, n.roots_key_id, {"networks": []})),
    row(key_watch.history, READ_KEYS, lambda s, n: key_watch.history(s, n.key_id)),
    row(key_watch.history, "root", lambda s, n: key_watch.history(s, n.roots_key_id)),
    row(key_watch.confirm, "iam:UpdateAccessKey", lambda s, n: key_watch.confirm(s, n.key_id)),
    row(key_watch.confirm, "root", lambda s, n: key_watch.confirm(s, n.roots_key_id)),
    row(
        key_watch.resume,
        "iam:UpdateAccessKey",
        lambda s, n: key_watch.resume(s, n.key_id),
    ),
    row(key_watch.resume, "root", lambda s, n: key_watch.resume(s, n.roots_key_id)),
    row(keys.delete, "iam:DeleteAccessKey", lambda s, n: keys.delete(s, n.key_id)),
    row(keys.delete, "root", lambda s, n: keys.delete(s, n.roots_key_id)),
    row(
        identities.create,
        f"ses:VerifyDomainIdentity|{CREATE}",
        lambda s, n: identities.create(s, IdentityRef(n.account_id, "new.example")),
    ),
    row(
        identities.create,
        f"ses:VerifyEmailIdentity|{CREATE}",
        lambda s, n: identities.create(s, IdentityRef(n.account_id, "me@new.example")),
    ),
    row(
        identities.create,
        "operator",
        lambda s, n: identities.create(
            s, IdentityRef(n.account_id, "new.example"), is_trusted=True
        ),
    ),
    row(
        identities.pages,
        "ses:ListIdentities|ses:ListEmailIdentities",
        lambda s, n: identities.pages(s, n.account_id),
    ),
    row(
        identities.get,
        "ses:GetIdentityVerificationAttributes|ses:GetEmailIdentity",
        lambda s, n: identities.get(s, n.domain),
    ),
    row(identities.pause, "operator", lambda s, n: identities.pause(s, n.domain, "stolen")),
    row(identities.resume, "operator", lambda s, n: identities.resume(s, n.domain)),
    row(
        identities.delete,
        "ses:DeleteIdentity|ses:DeleteEmailIdentity",
        lambda s, n: identities.delete(s, n.domain),
    ),
    row(identities.delete, "operator", lambda s, n: identities.delete(s, n.paused)),
    row(
        verification.check_domain,
        f"ses:VerifyDomainIdentity|{CREATE}",
        lambda s, n: verification.check_domain(s, n.domain, checks_by(Records())),
    ),
    row(
        verification.begin_domain,
        f"ses:VerifyDomainIdentity|{CREATE}",
        lambda s, n: verification.begin_domain(s, n.domain),
    ),
    row(verification.vouch, "operator", lambda s, n: verification.vouch(s, n.domain)),
    row(verification.send_code, f"ses:VerifyEmailIdentity|{CREATE}", send_code),
    row(
        verification.confirm,
        f"ses:VerifyEmailIdentity|{CREATE}",
        lambda s, n: verification.confirm(s, n.address, Secret("0000-0000-0000")),
    ),
    row(
        dkim.generate,
        f"ses:VerifyDomainDkim|{SIGN}",
        lambda s, n: dkim.generate(s, n.domain, "ed25519"),
    ),
    row(dkim.import_key, SIGN, lambda s, n: dkim.import_key(s, n.domain, "two", PEM)),
    row(dkim.pages, READ_DKIM, lambda s, n: dkim.pages(s, n.account_id)),
    row(dkim.pages, READ_DKIM, lambda s, n: dkim.pages(s, ref=n.domain)),
    row(dkim.get, READ_DKIM, lambda s, n: dkim.get(s, n.domain, n.selector)),
    row(dkim.check, READ_DKIM, lambda s, n: dkim.check(s, n.domain, Records())),
    row(
        easy_dkim.begin,
        f"ses:VerifyDomainDkim|{SIGN}",
        lambda s, n: easy_dkim.begin(s, n.domain),
    ),
    row(
        easy_dkim.put_signing_key,
        SIGN,
        lambda s, n: easy_dkim.put_signing_key(s, n.domain, "two", "AAAA"),
    ),
    row(easy_dkim.get, READ_DKIM, lambda s, n: easy_dkim.get(s, n.domain)),
    row(
        easy_dkim.set_enabled,
        "ses:SetIdentityDkimEnabled|ses:PutEmailIdentityDkimAttributes",
        lambda s, n: easy_dkim.set_enabled(s, n.domain, is_enabled=False),
    ),
    row(easy_dkim.hosted, "operator", lambda s, n: easy_dkim.hosted(s)),
    row(
        email_identities.create,
        f"ses:VerifyDomainIdentity|{CREATE} ses:TagResource",
        lambda s, n: email_identities.create(
            s, IdentityRef(n.account_id, "new.example"), NewIdentity(tags={"team": "news"})
        ),
    ),
    row(tags.put, "ses:TagResource", lambda s, n: tags.put(s, n.tagged, {"team": "news"})),
    row(tags.drop, "ses:UntagResource", lambda s, n: tags.drop(s, n.tagged, ["team"])),
    row(tags.of, READ_TAGS, lambda s, n: tags.of(s, n.tagged)),
    row(tags.put, "sns:TagResource", lambda s, n: tags.put(s, n.tagged_topic, {"a": "b"})),
    row(tags.drop, "sns:UntagResource", lambda s, n: tags.drop(s, n.tagged_topic, ["a"])),
    row(tags.of, "sns:ListTagsForResource", lambda s, n: tags.of(s, n.tagged_topic)),
    row(
        dkim.activate,
        f"ses:SetIdentityDkimEnabled|{SIGN}",
        lambda s, n: dkim.activate(s, n.domain, n.selector, Records(), force=True),
    ),
    row(
        mail_from.put,
        "ses:SetIdentityMailFromDomain|ses:PutEmailIdentityMailFromAttributes",
        lambda s, n: mail_from.put(s, n.domain, f"bounce.{n.domain.name}"),
    ),
    row(mail_from.get, READ_MAIL_FROM, lambda s, n: mail_from.get(s, n.domain)),
    row(
        mail_from.check,
        READ_MAIL_FROM,
        lambda s, n: mail_from.check(s, n.domain, checks_by(Records())),
    ),
    row(
        mail_from.delete,
        "ses:SetIdentityMailFromDomain|ses:PutEmailIdentityMailFromAttributes",
        lambda s, n: mail_from.delete(s, n.domain),
    ),
    row(
        dkim.retire,
        f"ses:SetIdentityDkimEnabled|{SIGN}",
        lambda s, n: dkim.retire(s, n.domain, n.selector, force=True),
    ),
    row(dkim.delete, SIGN, lambda s, n: dkim.delete(s, n.domain, n.selector, force=True)),
    row(policies.put, "iam:PutUserPolicy", lambda s, n: policies.put(s, n.user, "p", MAY_SEND)),
    row(
        policies.put,
        "ses:PutIdentityPolicy|ses:CreateEmailIdentityPolicy",
        lambda s, n: save(s, n, None),
    ),
    row(
        policies.put,
        "ses:PutIdentityPolicy|ses:UpdateEmailIdentityPolicy",
        lambda s, n: save(s, n, 1),
    ),
    row(policies.attached, READ_POLICIES, lambda s, n: policies.attached(s, n.user)),
    row(policies.attached, READ_GRANTS, lambda s, n: policies.attached(s, n.domain)),
    row(policies.get, READ_POLICIES, lambda s, n: policies.get(s, n.user, "may-send")),
    row(policies.get, READ_GRANTS, lambda s, n: policies.get(s, n.domain, "p", 1)),
    row(policies.history, READ_POLICIES, lambda s, n: policies.history(s, n.user, "may-send")),
    row(policies.history, READ_GRANTS, lambda s, n: policies.history(s, n.domain, "p")),
    row(policies.delete, "iam:DeleteUserPolicy", lambda s, n: policies.delete(s, n.user, "p")),
    row(
        policies.delete,
        "ses:DeleteIdentityPolicy|ses:DeleteEmailIdentityPolicy",
        lambda s, n: policies.delete(s, n.domain, "p"),
    ),
    row(
        policies.roll_back,
        f"{READ_POLICIES} iam:PutUserPolicy",
        lambda s, n: policies.roll_back(s, n.user, "may-send", 1),
    ),
    row(
        policies.roll_back,
        f"{READ_GRANTS} ses:PutIdentityPolicy|ses:CreateEmailIdentityPolicy "
        "ses:PutIdentityPolicy|ses:UpdateEmailIdentityPolicy",
        lambda s, n: policies.roll_back(s, n.domain, "p", 1),
    ),
    row(
        topics.create,
        "sns:CreateTopic sns:TagResource",
        lambda s, n: topics.create(s, n.new_topic, tags={"team": "news"}),
    ),
    row(topics.update, "sns:SetTopicAttributes", lambda s, n: topics.update(s, n.topic, "2")),
    row(topics.pages, "sns:ListTopics", lambda s, n: topics.pages(s, n.account_id)),
    row(topics.get, "sns:GetTopicAttributes", lambda s, n: topics.get(s, n.topic)),
    row(topics.delete, "sns:DeleteTopic", lambda s, n: topics.delete(s, n.topic)),
    row(
        topics.subscribe,
        "sns:Subscribe",
        lambda s, n: topics.subscribe(s, n.topic, "raw", "https://new.example/", Unreachable()),
    ),
    row(
        topics.subscribe,
        "operator",
        lambda s, n: topics.subscribe(
            s, n.topic, "listmonk", "https://new.example/", Unreachable(), is_trusted=True
        ),
    ),
    row(
        topics.resend,
        "sns:Subscribe",
        lambda s, n: topics.resend(s, n.subscription, Unreachable()),
    ),
    row(
        topics.confirm,
        "sns:ConfirmSubscription",
        lambda s, n: topics.confirm(s, n.topic, Secret("00")),
    ),
    row(topics.trust, "operator", lambda s, n: topics.trust(s, n.subscription)),
    row(topics.subscriptions, LIST, lambda s, n: topics.subscriptions(s, n.account_id)),
    row(topics.get_subscription, LIST, lambda s, n: topics.get_subscription(s, n.subscription)),
    row(
        topics.unsubscribe,
        "sns:Unsubscribe",
        lambda s, n: topics.unsubscribe(s, n.subscription),
    ),
    row(
        topics.allow,
        "sns:AddPermission|sns:SetTopicAttributes",
        lambda s, n: topics.allow(s, n.topic, "777777777777"),
    ),
    row(
        topics.disallow,
        "sns:RemovePermission|sns:SetTopicAttributes",
        lambda s, n: topics.disallow(s, n.topic, "777777777777"),
    ),
    row(topics.end, "sns:Unsubscribe", lambda s, n: topics.end(s, n.subscription)),
    row(
        notifications.get,
        READ_TOPICS,
        lambda s, n: notifications.get(s, n.domain, n.account_id),
    ),
    row(
        notifications.of_account,
        READ_TOPICS,
        lambda s, n: notifications.of_account(s, n.account_id),
    ),
    row(
        notifications.update,
        "ses:SetIdentityNotificationTopic ses:SetIdentityHeadersInNotificationsEnabled "
        "ses:SetIdentityFeedbackForwardingEnabled|ses:PutEmailIdentityFeedbackAttributes",
        lambda s, n: notifications.update(
            s,
            n.domain,
            n.account_id,
            topics={"Bounce": None},
            headers={"Bounce": False},
            is_forwarding=True,
        ),
    ),
    row(
        notifications.set_configuration_set,
        "ses:PutEmailIdentityConfigurationSetAttributes",
        lambda s, n: notifications.set_configuration_set(s, n.domain, None),
    ),
    row(
        configuration_sets.create,
        "ses:CreateConfigurationSet",
        lambda s, n: configuration_sets.create(s, n.new_set),
    ),
    row(
        configuration_sets.pages,
        "ses:ListConfigurationSets",
        lambda s, n: configuration_sets.pages(s, n.account_id),
    ),
    row(
        configuration_sets.get,
        "ses:DescribeConfigurationSet|ses:GetConfigurationSet"
        "|ses:GetConfigurationSetEventDestinations",
        lambda s, n: configuration_sets.get(s, n.set),
    ),
    row(
        configuration_sets.set_sending,
        "ses:UpdateConfigurationSetSendingEnabled|ses:PutConfigurationSetSendingOptions",
        lambda s, n: configuration_sets.set_sending(s, n.set, is_sending=False),
    ),
    row(
        configuration_sets.delete,
        "ses:DeleteConfigurationSet",
        lambda s, n: configuration_sets.delete(s, n.set),
    ),
    row(
        configuration_sets.add_destination,
        "ses:CreateConfigurationSetEventDestination",
        lambda s, n: configuration_sets.add_destination(s, n.set, "b", ["SEND"], n.topic.name),
    ),
    row(
        configuration_sets.update_destination,
        "ses:UpdateConfigurationSetEventDestination",
        lambda s, n: configuration_sets.update_destination(s, n.set, "a", is_enabled=False),
    ),
    row(
        configuration_sets.delete_destination,
        "ses:DeleteConfigurationSetEventDestination",
        lambda s, n: configuration_sets.delete_destination(s, n.set, "a"),
    ),
    row(
        reputation.pages,
        "ses:GetAccount|ses:ListReputationEntities",
        lambda s, n: reputation.pages(s, n.account_id),
    ),
    row(
        reputation.of_account,
        "ses:GetAccount|ses:GetReputationEntity",
        lambda s, n: reputation.of_account(s, SentMail(), n.account_id),
    ),
    row(
        reputation.enforcement_status,
        "ses:GetAccount|ses:GetReputationEntity",
        lambda s, n: reputation.enforcement_status(s, n.account_id),
    ),
    row(
        reputation.of_identity,
        "ses:GetReputationEntity|ses:ListReputationEntities",
        lambda s, n: reputation.of_identity(s, SentMail(), n.domain),
    ),
    row(
        reputation.pause_delegate,
        PAUSE_DELEGATE,
        lambda s, n: reputation.pause_delegate(s, DelegateRef(n.domain, DELEGATE), "x"),
    ),
    row(
        reputation.resume_delegate,
        PAUSE_DELEGATE,
        lambda s, n: reputation.resume_delegate(s, DelegateRef(n.domain, OTHER)),
    ),
    row(
        reputation.start_delegate_again,
        PAUSE_DELEGATE,
        lambda s, n: reputation.start_delegate_again(s, DelegateRef(n.domain, DELEGATE)),
    ),
    row(
        reputation.resume_account,
        "operator",
        lambda s, n: reputation.resume_account(s, n.account_id),
    ),
    row(
        reputation.start_account_again,
        "operator",
        lambda s, n: reputation.start_account_again(s, n.account_id),
    ),
    row(
        reputation.rate_delegates,
        "ses:UpdateReputationEntityPolicy",
        lambda s, n: reputation.rate_delegates(s, n.domain, is_rated=True),
    ),
    row(
        reputation.rate_set,
        "ses:UpdateConfigurationSetReputationMetricsEnabled"
        "|ses:PutConfigurationSetReputationOptions",
        lambda s, n: reputation.rate_set(s, n.set, is_rated=True),
    ),
    row(
        reputation.reputation_options,
        "ses:DescribeConfigurationSet|ses:GetConfigurationSet"
        "|ses:GetConfigurationSetEventDestinations",
        lambda s, n: reputation.reputation_options(s, n.set),
    ),
    row(
        suppression.put,
        "ses:PutSuppressedDestination",
        lambda s, n: suppression.put(s, n.account_id, "new@example.org", "BOUNCE"),
    ),
    row(
        suppression.put_all,
        "ses:CreateImportJob",
        lambda s, n: suppression.put_all(s, n.account_id, [ENTRY], "list.csv"),
    ),
    row(
        suppression.remove,
        "ses:DeleteSuppressedDestination",
        lambda s, n: suppression.remove(s, n.account_id, n.listed),
    ),
    row(
        suppression.remove_all,
        "ses:CreateImportJob",
        lambda s, n: suppression.remove_all(s, n.account_id, [n.listed]),
    ),
    row(
        suppression.get,
        "ses:GetSuppressedDestination",
        lambda s, n: suppression.get(s, n.account_id, n.listed),
    ),
    row(
        suppression.pages,
        "ses:ListSuppressedDestinations",
        lambda s, n: suppression.pages(s, n.account_id),
    ),
    row(
        suppression.settings,
        "ses:GetAccount",
        lambda s, n: suppression.settings(s, n.account_id),
    ),
    row(
        suppression.set_reasons,
        "ses:PutAccountSuppressionAttributes",
        lambda s, n: suppression.set_reasons(s, n.account_id, ("BOUNCE",)),
    ),
    row(
        suppression.set_reasons_of_set,
        "ses:PutConfigurationSetSuppressionOptions",
        lambda s, n: suppression.set_reasons_of_set(s, n.set, ()),
    ),
    row(
        suppression.set_for_delegates,
        "ses:PutAccountSuppressionAttributes",
        lambda s, n: suppression.set_for_delegates(s, n.domain, suppresses_delegates=True),
    ),
    row(quotas.of, "ses:GetSendQuota|ses:GetAccount", lambda s, n: quotas.of(s, n.root)),
    row(quotas.of, "ses:GetSendQuota|ses:GetAccount", lambda s, n: quotas.of(s, n.owner)),
    row(
        quotas.of,
        "ses:GetSendQuota|ses:GetAccount",
        lambda s, n: quotas.of(s, AccessKeyRef(n.key_id)),
    ),
    row(quotas.of, "ses:GetSendQuota|ses:GetAccount", lambda s, n: quotas.of(s, n.domain)),
    *limited(quotas.set_limits, lambda s, ref: quotas.set_limits(s, ref, {"max_24h_send": 5})),
    *limited(
        quotas.raise_limits,
        lambda s, ref: quotas.raise_limits(
            s, ref, max_24h_send=500, until=s.now() + timedelta(days=1)
        ),
    ),
    *limited(quotas.end_raise, quotas.end_raise),
    row(
        journal.search,
        SEE,
        lambda s, n: in_journal(
            s, lambda j: journal.search(j, Search(account_id=n.account_id))
        ),
    ),
    row(
        journal.follow,
        SEE,
        lambda s, n: in_journal(
            s, lambda j: journal.follow(j, Search(account_id=n.account_id), stop)
        ),
    ),
    row(
        journal.get,
        SEE,
        lambda s, n: in_journal(s, lambda j: journal.get(j, "0100", n.account_id)),
    ),
    row(
        explained,
        SEE,
        lambda s, n: in_journal(s, lambda j: explained(j, "0100", n.account_id)),
    ),
    row(
        send_statistics,
        "ses:GetSendStatistics|ses:BatchGetMetricData",
        lambda s, n: in_journal(s, lambda j: send_statistics(j, n.account_id)),
    ),
    row(
        daily_sums,
        "ses:GetSendStatistics|ses:BatchGetMetricData",
        lambda s, n: in_journal(
            s,
            lambda j: daily_sums(j, DailyQuestion(since=s.now(), until=s.now()), n.account_id),
        ),
    ),
    row(
        journal.usage,
        "ses:GetSendStatistics|ses:BatchGetMetricData",
        lambda s, n: in_journal(
            s, lambda j: journal.usage(j, since=j.now(), account_id=n.account_id)
        ),
    ),
    row(
        key_watch.replay,
        "operator",
        lambda s, n: in_journal(s, key_watch.replay),
    ),
    row(
        outbox.tasks,
        "ses:GetMessageInsights",
        lambda s, n: in_journal(
            s, lambda j: outbox.tasks(j, TaskFilter(account_id=n.account_id))
        ),
    ),
    row(
        outbox.get,
        "ses:GetMessageInsights",
        lambda s, n: in_journal(s, lambda j: outbox.get(j, "0100", n.account_id)),
    ),
    row(
        outbox.retry, "operator", lambda s, n: in_journal(s, lambda j: outbox.retry(j, "0100"))
    ),
    row(
        outbox.retry_all,
        "operator",
        lambda s, n: in_journal(s, lambda j: outbox.retry_all(j, TaskFilter(state="dead"))),
    ),
    row(outbox.drop, "operator", lambda s, n: in_journal(s, lambda j: outbox.drop(j, "0100"))),
    row(journal.status, "operator", lambda s, n: in_journal(s, journal.status)),
    row(
        journal.upgrade,
        "operator",
        lambda s, n: in_journal(s, lambda j: journal.upgrade(j, j.reader.store)),
    ),
    row(impact_of, SEE, impact),
    row(documents.propose, "operator", lambda s, n: propose(s)),
    row(documents.apply, "operator", apply),
    row(documents.export, "operator", export),
    row(audit.pages, "operator", lambda s, n: audit.pages(s, AuditFilter())),
    row(audit.follow, "operator", lambda s, n: audit.follow(s, AuditFilter(), stop)),
    row(audit.get, "operator", lambda s, n: audit.get(s, 1)),
    row(maintenance.status, "operator", lambda s, n: maintenance.status(s)),
    row(maintenance.upgrade_tables, "operator", lambda s, n: maintenance.upgrade_tables(s)),
    row(maintenance.rekey, "operator", lambda s, n: maintenance.rekey(s)),
    row(maintenance.back_up, "operator", back_up),
    row(maintenance.copy, "operator", copy),
    row(
        preview.simulate,
        "operator",
        lambda s, n: preview.simulate(preview_session(s), n.account_id, None, MESSAGE),
    ),
    row(
        preview.answer,
        "operator",
        lambda s, n: preview.answer(preview_session(s), read_simulation(REQUEST)),
    ),
    row(
        preview.who_has_access,
        "operator",
        lambda s, n: preview.who_has_access(preview_session(s), MESSAGE.authors[0]),
    ),
)
# Refusals that have nothing to do with rights: the caller got that far.
BEYOND_RIGHTS: Final = (
    CodeNotSentError,
    CodeRefusedError,
    ConfirmationNotSentError,
    RefusedChangeError,
    StageError,
    StopFollowingError,
)


def name_of(one: Row) -> str:
    """The function, and what it needs."""
    needs = one.needs if isinstance(one.needs, str) else "+".join(a[0] for a in one.needs)
    return f"{one.function.__module__.rpartition('.')[2]}.{one.function.__name__}-{needs}"


def use_cases() -> set[Callable[..., Any]]:
    """Every public function of the use cases that is given a session."""
    found: set[Callable[..., Any]] = set()
    for module in pkgutil.iter_modules(smtpgate.admin.__path__, "smtpgate.admin."):
        for name, function in inspect.getmembers(importlib.import_module(module.name)):
            if (
                inspect.isfunction(function)
                and function.__module__ == module.name
                and not name.startswith("_")
                and next(iter(inspect.signature(function).parameters), "") == "session"
            ):
                found.add(function)
    return found


# Parts that use cases share; those that use them check the rights.
PARTS: Final = {
    easy_dkim.own_key,
    easy_dkim.put_easy_keys,
    easy_dkim.put_own_key,
    easy_dkim.read_settings,
    tags.arn_of,
    identities.details_of,
    identities.read_details,
    users.must_be_allowed_for_user,
    keys.own_access_key,
    keys.found,
    notices.confirm_end,
    notices.try_topic_of_events,
    notices.try_topics_of_identity,
    paging.rows_in_pages,
    topics.named,
    topics.place_of,
}


def test_every_use_case_has_a_row() -> None:
    assert {one.function for one in ROWS} == use_cases() - PARTS


async def furnish(path: Path) -> None:
    """One thing of each kind in one account, and another account."""
    async with open_store(sqlite_url(path)) as store:
        await add_account(store, OWNER)
        await add_account(store, DELEGATE)
        await add_user(store, "mailer", OWNER, path="/team-a/")
        await add_key(store, USERS_KEY, OWNER, user_name="mailer")
        await add_key(store, ROOTS_KEY, OWNER)
        await add_identity(store, "ses-example.com", OWNER)
        await add_mail_from(store, "ses-example.com", OWNER)
        await add_identity(store, "paused.example", OWNER, paused_reason="stolen")
        await add_identity(store, "me@example.com", OWNER, state="not-started", method=None)
        await signing_key(store, "one", "ses-example.com", OWNER)
        await add_topic(store, account_id=OWNER)
        await subscribe(store, account_id=OWNER, form="raw", subscription_id=ID, secret=WHSEC)
        await add_topic(store, "events", OWNER)
        await add_set(store, account_id=OWNER)
        async with store.changing(ACTOR) as change:
            template = TemplateRow(account_id=OWNER, region="us-east-1", name="t")
            await create_template(change, template)
        await add_destination(store, "SEND", topic="events", account_id=OWNER)
        await suppress(store, THERE.listed, account_id=OWNER)
        await pause(store, RatedSender.account(OWNER))
        await pause(store, RatedSender.delegate(OTHER, OWNER, THERE.domain.name))


@pytest.fixture(scope="module")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with something of each kind."""
    path = tmp_path_factory.mktemp("rights") / "directory.sqlite"
    shutil.copy(sqlite_template, path)
    asyncio.run(furnish(path))
    return path


@pytest.fixture
async def store(furnished: Path, tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    """A copy of that directory."""
    path = tmp_path / "directory.sqlite"
    shutil.copy(furnished, path)
    async with open_store(sqlite_url(path)) as opened:
        yield opened


@pytest.fixture
def restore(furnished: Path, store: DirectoryStore) -> Iterator[Callable[[], None]]:
    """Undo all changes in the store."""
    source = sqlite3.connect(furnished)
    target = sqlite3.connect(store.database.url.database or "")

    def version() -> object:
        return target.execute("PRAGMA data_version").fetchone()

    seen = version()

    def copy_back() -> None:
        nonlocal seen
        if version() != seen:
            source.backup(target)
            seen = version()

    with closing(source), closing(target):
        yield copy_back


async def finish(one: Row, session: Session, names: Names) -> None:
    """Call the function, and read what it lists to its end."""
    found = one.call(session, names)
    if isinstance(found, AsyncIterator):
        assert [page async for page in found]
    else:
        await found


async def refusal(one: Row, store: DirectoryStore, caller: Operator | Principal) -> str | None:
    """The text of a refusal, or ``None`` if the caller has the right."""
    try:
        await finish(one, session_of(store, caller), THERE)
    except NotAuthorizedError as error:
        return str(error)
    except BEYOND_RIGHTS:
        return None
    return None


def permitted(one: Row) -> list[Principal]:
    """Users that have just enough: of alternative actions the first, the second …"""
    assert not isinstance(one.needs, str)
    most = max(len(alternatives) for alternatives in one.needs)
    return [
        user(*(allow(actions[min(at, len(actions) - 1)]) for actions in one.needs))
        for at in range(most)
    ]


def unpermitted(one: Row) -> list[Principal]:
    """Users that have every action but those: once none, and once all but one."""
    if isinstance(one.needs, str):
        return [user(), user(allow("*"))]
    return [user(), *(user(allow_all_but(*actions)) for actions in one.needs)]


ALL: Final = rows("one", ROWS, ids=name_of)


@pytest.mark.slow
@ALL
async def test_an_operator_may_do_everything(
    one: Row, store: DirectoryStore, restore: Callable[[], None]
) -> None:
    restore()
    assert await refusal(one, store, OPERATOR) is None


@pytest.mark.slow
@ALL
async def test_a_root_may_do_everything_in_its_account_but_what_is_the_operators(
    one: Row, store: DirectoryStore, restore: Callable[[], None]
) -> None:
    restore()
    refused = await refusal(one, store, root())
    assert (refused is None) is (one.needs != "operator")


@rows("one", [one for one in ROWS if not isinstance(one.needs, str)], ids=name_of)
async def test_a_user_may_do_what_its_policies_allow(
    one: Row, store: DirectoryStore, restore: Callable[[], None]
) -> None:
    restore()
    for caller in permitted(one):
        assert await refusal(one, store, caller) is None


@ALL
async def test_a_user_may_not_do_what_its_policies_do_not_allow(
    one: Row, store: DirectoryStore
) -> None:
    for caller in unpermitted(one):
        refused = await refusal(one, store, caller)
        assert refused is not None
        assert refused.startswith(f"User: {caller.arn} is not authorized to perform: ")


@ALL
async def test_a_stranger_may_do_nothing_and_learns_nothing(
    one: Row, store: DirectoryStore
) -> None:
    for caller in (root(DELEGATE), user(allow("*"), account_id=DELEGATE)):
        there, missing = [
            await outcome(one, store, caller, names) for names in (THERE, MISSING)
        ]
        assert there == missing


async def outcome(
    one: Row, store: DirectoryStore, caller: Principal, names: Names
) -> tuple[type[Exception], str]:
    """The error, with the names taken out that the caller gave."""
    with pytest.raises((NotAuthorizedError, RefusedChangeError)) as refused:
        await finish(one, session_of(store, caller), names)
    text = str(refused.value)
    given = (names.user.name, names.key_id, names.roots_key_id, names.domain.name)
    others = names.address.name, names.paused.name, names.topic.name, names.set.name
    for name in (*given, *others):
        text = text.replace(name, "…")
    return type(refused.value), text
