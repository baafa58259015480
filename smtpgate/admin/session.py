"""An administrative session: who acts, with which rights, on which directory."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from smtpgate.admin.errors import NotAuthorizedError, RefusedChangeError
from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef, TemplateRef, TopicRef
from smtpgate.admin.rights import RIGHTS
from smtpgate.config import Config
from smtpgate.core.account import Principal
from smtpgate.core.arn import IdentityArn, root_arn, user_arn
from smtpgate.core.authorization.context import circumstances, principal_context
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.policy import Caller, Context, Request, evaluate
from smtpgate.directory.change import Actor, Change
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock, Outbox

if TYPE_CHECKING:  # few sessions need it, and it needs all of proofs and DKIM keys
    from smtpgate.directory.registered_identities import DirectoryIdentities


@dataclass(frozen=True, slots=True)
class Operator:
    """A person with access to the gate's host, such as at its command line."""


OPERATOR: Final = Operator()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSession:
    """One person at work: who acts, from where, and with which rights.

    ``caller`` has the rights: an operator, an account's root, or a user with its policies.
    ``address`` is the caller's, for conditions on ``aws:SourceIp``.
    """

    config: Config
    clock: Clock
    caller: Operator | Principal
    address: str | None = None
    is_encrypted: bool = False

    @property
    def region(self) -> str:
        """The region of this gate's identities."""
        return self.config.gate.region

    @property
    def partition(self) -> str:
        """The partition in this gate's ARNs."""
        return self.config.gate.partition

    def now(self) -> datetime:
        """This moment."""
        return self.clock.now()

    # -- rights --------------------------------------------------------------------------------

    def owns(self, account_id: str) -> bool:
        """True if the things of an account are the caller's; all are an operator's."""
        return isinstance(self.caller, Operator) or self.caller.account.id == account_id

    def is_allowed(self, operation: str, resource: str) -> bool:
        """True if the caller may do an operation of the table of rights to a resource.

        The resource is an ARN, whose account decides first.
        """
        right, caller = RIGHTS[operation], self.caller
        if isinstance(caller, Operator):
            return True
        if right.least == "operator" or not self.owns(_account_of(resource)):
            return False
        return caller.is_root or self._has_right(caller, right.actions, resource)

    def must_be_allowed(self, operation: str, resource: str) -> None:
        """Check that the caller may do an operation to a resource.

        Ask before the resource is looked up, so that a caller of another account cannot learn
        whether it exists. Raises NotAuthorizedError.
        """
        if not self.is_allowed(operation, resource):
            raise self._refusal(operation, resource)

    def must_own(self, operation: str, resource: str) -> None:
        """Check only the account of the resource. Raises NotAuthorizedError."""
        if not self.owns(_account_of(resource)):
            raise self._refusal(operation, resource)

    def must_be_allowed_somewhere(self, operation: str) -> None:
        """Check the caller's right to an operation on any user of the own account.

        For a thing that is named without its account, and was not found in the caller's. Raises
        NotAuthorizedError.
        """
        if not isinstance(self.caller, Operator):
            self.must_be_allowed(operation, self.user_arn(self.caller.account.id, "*"))

    def _refusal(self, operation: str, resource: str) -> NotAuthorizedError:
        actions = RIGHTS[operation].actions
        arn = "" if isinstance(self.caller, Operator) else self.caller.arn
        return NotAuthorizedError(
            arn, actions[0] if actions else f"smtpgate:{operation}", resource
        )

    def _has_right(self, user: Principal, actions: tuple[str, ...], resource: str) -> bool:
        """True if the user's policies allow one of the actions, and deny none."""
        caller = Caller(user.account.id, user.arn, user.is_root)
        context = self._context(user)
        outcomes = {
            evaluate(
                Request(caller, action, resource, context),
                identity_policies=(),
                user_policies=user.policies,
            ).outcome
            for action in actions
        }
        return "allow" in outcomes and "explicit-deny" not in outcomes

    def _context(self, user: Principal) -> Context:
        return {
            **principal_context(user, self.region),
            **circumstances(self.now(), self.address, is_encrypted=self.is_encrypted),
            "aws:resourceaccount": (user.account.id,),
        }

    def account_to_list(
        self, operation: str, account_id: str | None, arn_of: Callable[[str], str]
    ) -> str | None:
        """The account whose things to list: an operator may list any, or all with ``None``.

        Anyone else lists their own; ``arn_of`` makes the resource of an account's id. Raises
        NotAuthorizedError.
        """
        if isinstance(self.caller, Operator):
            return account_id
        own = account_id or self.caller.account.id
        self.must_be_allowed(operation, arn_of(own))
        return own

    # -- names of resources --------------------------------------------------------------------

    def account_arn(self, account_id: str) -> str:
        """The ARN of an account."""
        return root_arn(account_id, self.partition)

    def user_arn(self, account_id: str, name: str, path: str = "/") -> str:
        """The ARN of a user; ``*`` as the name stands for all of the account."""
        return user_arn(account_id, name, path, self.partition)

    def identity_arn(self, identity: IdentityRef) -> str:
        """Its ARN; ``*`` as the name stands for all. Raises as :meth:`must_be_here`."""
        self.must_be_here(identity)
        return str(IdentityArn(self.partition, self.region, identity.account_id, identity.name))

    def topic_arn(self, topic: TopicRef) -> str:
        """Its ARN; ``*`` as the name stands for all."""
        return str(SnsArn(self.partition, self.region, topic.account_id, topic.name))

    def configuration_set_arn(self, ref: ConfigurationSetRef) -> str:
        """Its ARN; ``*`` as the name stands for all."""
        place = f"arn:{self.partition}:ses:{self.region}:{ref.account_id}"
        return f"{place}:configuration-set/{ref.name}"

    def template_arn(self, ref: TemplateRef) -> str:
        """Its ARN; ``*`` as the name stands for all."""
        place = f"arn:{self.partition}:ses:{self.region}:{ref.account_id}"
        return f"{place}:template/{ref.name}"

    def list_arn(self, account_id: str) -> str:
        """The ARN of an account's suppression list, for which AWS has no name of its own."""
        return f"arn:{self.partition}:ses:{self.region}:{account_id}:suppression-list"

    def must_be_here(self, identity: IdentityRef) -> None:
        """Raises RefusedChangeError when an ARN names another region or partition."""
        arn = identity.arn
        if arn is not None and (arn.region, arn.partition) != (self.region, self.partition):
            raise RefusedChangeError(
                f"{arn} is not of this gate's region {self.region} and partition "
                f"{self.partition}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(CallerSession):
    """One person at work in an open directory.

    ``actor`` is written into the audit log; ``chance`` gives numbers from 0 to below 1, for the
    time of DNS questions. Changes that SES tells topics of go into ``outbox``, if there is one.
    """

    store: DirectoryStore
    actor: Actor
    chance: Callable[[], float] = SystemRandom().random
    outbox: Outbox | None = None

    def changing(self) -> AbstractAsyncContextManager[Change]:
        """A change that the audit log ascribes to this session's actor."""
        return self.store.changing(self.actor)

    def registered_identities(self, action: str) -> "DirectoryIdentities":
        """The proofs and DKIM keys of identities; the audit log names changes by ``action``."""
        from smtpgate.directory.registered_identities import (  # noqa: PLC0415 - see above
            DirectoryIdentities,
        )

        return DirectoryIdentities(self.store, self.actor, action)


def _account_of(arn: str) -> str:
    return arn.split(":", 5)[4]


def operator_session(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    *,
    name: str,
    origin: str,
    outbox: Outbox | None = None,
) -> Session:
    """An operator's session; the audit log will name the operator and the origin."""
    return Session(
        config=config,
        store=store,
        clock=clock,
        actor=Actor(name, origin),
        caller=OPERATOR,
        outbox=outbox,
    )


def principal_session(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    principal: Principal,
    *,
    origin: str,
    address: str,
    is_encrypted: bool,
    outbox: Outbox | None = None,
) -> Session:
    """The session of an account's root or user that has logged in, from that address.

    The audit log will name it by its ARN, with the origin, such as ``api``, and the address.
    """
    return Session(
        config=config,
        store=store,
        clock=clock,
        actor=Actor(principal.arn, f"{origin} from {address}"),
        caller=principal,
        address=address,
        is_encrypted=is_encrypted,
        outbox=outbox,
    )
