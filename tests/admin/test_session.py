"""The rights of a session: the table of rights, with policies of all kinds."""

import pytest

from smtpgate.admin.errors import NotAuthorizedError, RefusedChangeError
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.rights import RIGHTS
from smtpgate.admin.session import OPERATOR, Operator, principal_session
from smtpgate.core.account import Principal
from smtpgate.core.arn import IdentityArn
from smtpgate.directory.change import Actor
from smtpgate.directory.store import DirectoryStore
from tests.support.admin import allow, config, deny, root, session_of, user
from tests.support.clock import MovableClock
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER
from tests.support.world import IDENTITY as ARN

OTHER_ARN = f"arn:aws:ses:us-east-1:{DELEGATE}:identity/ses-example.com"
DELETE = "ses:DeleteIdentity"
NETWORK = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
UNTIL = {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}


def may(
    store: DirectoryStore,
    caller: Operator | Principal,
    operation: str = "DeleteIdentity",
    resource: str = ARN,
) -> bool:
    try:
        session_of(store, caller, address="192.0.2.7").must_be_allowed(operation, resource)
    except NotAuthorizedError:
        return False
    return True


@rows(
    "caller, resource, allowed",
    [
        (OPERATOR, ARN, True),
        (OPERATOR, OTHER_ARN, True),
        (root(), ARN, True),
        (root(), OTHER_ARN, False),
        (user(), ARN, False),
        (user(allow(DELETE)), ARN, True),
        (user(allow(DELETE)), OTHER_ARN, False),
        (user(allow("*")), OTHER_ARN, False),
        (user(allow("ses:DeleteEmailIdentity")), ARN, True),
        (user(allow("SES:deleteidentity")), ARN, True),
        (user(allow("ses:*")), ARN, True),
        (user(allow("ses:GetIdentity*")), ARN, False),
        (user(allow("ses:*"), deny(DELETE)), ARN, False),
        (user(allow(DELETE), deny("ses:DeleteEmailIdentity")), ARN, False),
        (user(allow(DELETE, resource=ARN)), ARN, True),
        (user(allow(DELETE, resource=OTHER_ARN)), ARN, False),
        (user(allow(DELETE, resource=f"{ARN[:-16]}/*")), ARN, True),
        (user(allow(DELETE), deny("*", resource=ARN)), ARN, False),
        (user(allow(DELETE, Condition=NETWORK)), ARN, True),
        (user(allow(DELETE), deny("*", Condition=NETWORK)), ARN, False),
        (user(allow(DELETE, Condition=UNTIL)), ARN, False),
        (
            user(allow(DELETE, Condition={"StringEquals": {"aws:username": "admin"}})),
            ARN,
            True,
        ),
    ],
)
def test_a_caller_may_what_its_rights_say(
    store: DirectoryStore, caller: Operator | Principal, resource: str, allowed: bool
) -> None:
    assert may(store, caller, resource=resource) is allowed


def test_conditions_on_the_address_fail_when_it_is_not_known(store: DirectoryStore) -> None:
    session = session_of(store, user(allow(DELETE, Condition=NETWORK)))
    with pytest.raises(NotAuthorizedError):
        session.must_be_allowed("DeleteIdentity", ARN)


@rows("operation", [name for name in RIGHTS if not RIGHTS[name].actions])
def test_no_policy_allows_what_is_the_operators_or_the_roots(
    store: DirectoryStore, operation: str
) -> None:
    assert not may(store, user(allow("*")), operation)
    assert may(store, root(), operation) is (RIGHTS[operation].least == "root")
    assert may(store, OPERATOR, operation)


def test_rights_name_actions_of_ses_iam_and_sns_where_users_have_them() -> None:
    for right in RIGHTS.values():
        assert bool(right.actions) is (right.least == "user")
        assert all(action.startswith(("ses:", "iam:", "sns:")) for action in right.actions)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (
            "DeleteIdentity",
            f"User: arn:aws:iam::{OWNER}:user/admin is not authorized to perform: "
            f"ses:DeleteIdentity on resource: {ARN}",
        ),
        (
            "VouchForIdentity",
            f"User: arn:aws:iam::{OWNER}:user/admin is not authorized to perform: "
            f"smtpgate:VouchForIdentity on resource: {ARN}",
        ),
    ],
)
def test_a_refusal_speaks_as_iam_does(store: DirectoryStore, operation: str, said: str) -> None:
    with pytest.raises(NotAuthorizedError) as refused:
        session_of(store, user()).must_be_allowed(operation, ARN)
    assert str(refused.value) == said


def test_operators_list_all_accounts_and_others_their_own(store: DirectoryStore) -> None:
    def asked(caller: Operator | Principal, account_id: str | None) -> str | None:
        session = session_of(store, caller)
        return session.account_to_list(
            "ListUsers", account_id, lambda own: session.user_arn(own, "*")
        )

    assert asked(OPERATOR, None) is None
    assert asked(OPERATOR, DELEGATE) == DELEGATE
    assert asked(root(), None) == asked(root(), OWNER) == OWNER
    assert asked(user(allow("iam:ListUsers")), None) == OWNER
    for caller, account_id in ((root(), DELEGATE), (user(), None)):
        with pytest.raises(NotAuthorizedError):
            asked(caller, account_id)


def test_an_arn_of_another_region_names_nothing_here(store: DirectoryStore) -> None:
    session = session_of(store)
    here = IdentityArn("aws", "us-east-1", OWNER, "ses-example.com")
    elsewhere = IdentityArn("aws", "eu-west-1", OWNER, "ses-example.com")
    assert session.identity_arn(IdentityRef(OWNER, "ses-example.com", here)) == ARN
    with pytest.raises(RefusedChangeError, match="is not of this gate's region us-east-1"):
        session.identity_arn(IdentityRef(OWNER, "ses-example.com", elsewhere))


def test_the_audit_log_names_a_caller_by_its_arn_and_address(store: DirectoryStore) -> None:
    caller = user(allow(DELETE, Condition=NETWORK))
    session = principal_session(
        config(),
        store,
        MovableClock(),
        caller,
        origin="api",
        address="192.0.2.7",
        is_encrypted=True,
    )
    assert session.actor == Actor(caller.arn, "api from 192.0.2.7")
    session.must_be_allowed("DeleteIdentity", ARN)
