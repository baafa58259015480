"""The one table of administrative rights: the actions of policies that permit an operation.

The names of actions are those of SES (both versions of its API), SNS and IAM, so that policies
written for them hold here. An operation with several actions is one that the two versions name
apart: an Allow of any of them permits it, and a Deny of any of them denies it.
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonses.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsimpleemailservicev2.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Least = Literal["operator", "root", "user"]


@dataclass(frozen=True, slots=True)
class Right:
    """The callers of an operation: operators; an account's root; or a user with an action.

    ``actions`` is empty unless users may do it.
    """

    least: Least
    actions: tuple[str, ...] = ()


_OPERATORS: Final = Right("operator")
_ROOT: Final = Right("root")


def _with(*actions: str) -> Right:
    return Right("user", actions)


RIGHTS: Final[Mapping[str, Right]] = {
    # Accounts belong to the gate's operators.
    "CreateAccount": _OPERATORS,
    "ListAccounts": _OPERATORS,
    "GetAccount": _with("ses:GetAccount"),
    "UpdateAccount": _OPERATORS,
    "PauseAccount": _OPERATORS,
    "ResumeAccount": _OPERATORS,
    "DeleteAccount": _OPERATORS,
    # Its own switch, beside the operators' pause, which the account cannot lift.
    "UpdateAccountSending": _with(
        "ses:UpdateAccountSendingEnabled", "ses:PutAccountSendingAttributes"
    ),
    "GetAccountSending": _with("ses:GetAccountSendingEnabled", "ses:GetAccount"),
    "PutAccountDetails": _with("ses:PutAccountDetails"),
    # Users.
    "CreateUser": _with("iam:CreateUser"),
    "ListUsers": _with("iam:ListUsers"),
    "GetUser": _with("iam:GetUser"),
    "UpdateUser": _with("iam:UpdateUser"),
    "TagUser": _with("iam:TagUser"),
    "UntagUser": _with("iam:UntagUser"),
    "DeleteUser": _with("iam:DeleteUser"),
    # Access keys. A user that may create keys for other users may act as they do; only the root
    # may act as the root.
    "CreateAccessKey": _with("iam:CreateAccessKey"),
    "ReadAccessKey": _with("iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
    "UpdateAccessKey": _with("iam:UpdateAccessKey"),
    "DeleteAccessKey": _with("iam:DeleteAccessKey"),
    "CreateRootAccessKey": _ROOT,
    "ReadRootAccessKey": _ROOT,
    "UpdateRootAccessKey": _ROOT,
    "DeleteRootAccessKey": _ROOT,
    "ReplayKeyWatch": _OPERATORS,
    # A user's policies.
    "PutUserPolicy": _with("iam:PutUserPolicy"),
    "GetUserPolicies": _with("iam:GetUserPolicy", "iam:ListUserPolicies"),
    "DeleteUserPolicy": _with("iam:DeleteUserPolicy"),
    # Identities. Only an operator may vouch for one without a proof, and an identity that an
    # operator paused stays paused.
    "CreateDomainIdentity": _with("ses:VerifyDomainIdentity", "ses:CreateEmailIdentity"),
    "CreateAddressIdentity": _with("ses:VerifyEmailIdentity", "ses:CreateEmailIdentity"),
    "ListIdentities": _with("ses:ListIdentities", "ses:ListEmailIdentities"),
    "GetIdentity": _with("ses:GetIdentityVerificationAttributes", "ses:GetEmailIdentity"),
    "VerifyDomainIdentity": _with("ses:VerifyDomainIdentity", "ses:CreateEmailIdentity"),
    "VerifyAddressIdentity": _with("ses:VerifyEmailIdentity", "ses:CreateEmailIdentity"),
    "VouchForIdentity": _OPERATORS,
    "PauseIdentity": _OPERATORS,
    "ResumeIdentity": _OPERATORS,
    "DeleteIdentity": _with("ses:DeleteIdentity", "ses:DeleteEmailIdentity"),
    "DeletePausedIdentity": _OPERATORS,
    # An identity's policies.
    "CreateIdentityPolicy": _with("ses:PutIdentityPolicy", "ses:CreateEmailIdentityPolicy"),
    "UpdateIdentityPolicy": _with("ses:PutIdentityPolicy", "ses:UpdateEmailIdentityPolicy"),
    "GetIdentityPolicies": _with(
        "ses:GetIdentityPolicies", "ses:GetEmailIdentityPolicies", "ses:GetEmailIdentity"
    ),
    "DeleteIdentityPolicy": _with("ses:DeleteIdentityPolicy", "ses:DeleteEmailIdentityPolicy"),
    # An identity's DKIM keys.
    "ListDkimKeys": _with("ses:GetIdentityDkimAttributes", "ses:GetEmailIdentity"),
    "GetDkimKey": _with("ses:GetIdentityDkimAttributes", "ses:GetEmailIdentity"),
    "CheckDkimKeys": _with("ses:GetIdentityDkimAttributes", "ses:GetEmailIdentity"),
    "CreateDkimKey": _with("ses:VerifyDomainDkim", "ses:PutEmailIdentityDkimSigningAttributes"),
    "ImportDkimKey": _with("ses:PutEmailIdentityDkimSigningAttributes"),
    "ActivateDkimKey": _with(
        "ses:SetIdentityDkimEnabled", "ses:PutEmailIdentityDkimSigningAttributes"
    ),
    "RetireDkimKey": _with(
        "ses:SetIdentityDkimEnabled", "ses:PutEmailIdentityDkimSigningAttributes"
    ),
    # Keys of the API: they sign by themselves once their record is found.
    "BeginEasyDkim": _with("ses:VerifyDomainDkim", "ses:PutEmailIdentityDkimSigningAttributes"),
    "PutSigningKey": _with("ses:PutEmailIdentityDkimSigningAttributes"),
    "SetDkimSigning": _with("ses:SetIdentityDkimEnabled", "ses:PutEmailIdentityDkimAttributes"),
    "ListHostedKeys": _OPERATORS,
    "DeleteDkimKey": _with("ses:PutEmailIdentityDkimSigningAttributes"),
    # An identity's MAIL FROM domain.
    "SetMailFromDomain": _with(
        "ses:SetIdentityMailFromDomain", "ses:PutEmailIdentityMailFromAttributes"
    ),
    "GetMailFromDomain": _with(
        "ses:GetIdentityMailFromDomainAttributes", "ses:GetEmailIdentity"
    ),
    # Topics and subscriptions. Only an operator may confirm one without its token.
    "CreateTopic": _with("sns:CreateTopic"),
    "ListTopics": _with("sns:ListTopics"),
    "GetTopic": _with("sns:GetTopicAttributes"),
    "UpdateTopic": _with("sns:SetTopicAttributes"),
    "AllowTopic": _with("sns:AddPermission", "sns:SetTopicAttributes"),
    "DisallowTopic": _with("sns:RemovePermission", "sns:SetTopicAttributes"),
    "DeleteTopic": _with("sns:DeleteTopic"),
    "Subscribe": _with("sns:Subscribe"),
    "ListSubscriptions": _with("sns:ListSubscriptions", "sns:ListSubscriptionsByTopic"),
    "ConfirmSubscription": _with("sns:ConfirmSubscription"),
    "VouchForSubscription": _OPERATORS,
    "Unsubscribe": _with("sns:Unsubscribe"),
    # Notifications of an identity, of its owner or a delegate.
    "GetIdentityNotifications": _with(
        "ses:GetIdentityNotificationAttributes", "ses:GetEmailIdentity"
    ),
    "SetIdentityNotificationTopic": _with("ses:SetIdentityNotificationTopic"),
    "SetIdentityHeadersInNotifications": _with("ses:SetIdentityHeadersInNotificationsEnabled"),
    "SetIdentityFeedbackForwarding": _with(
        "ses:SetIdentityFeedbackForwardingEnabled", "ses:PutEmailIdentityFeedbackAttributes"
    ),
    "SetIdentityConfigurationSet": _with("ses:PutEmailIdentityConfigurationSetAttributes"),
    # Configuration sets.
    "CreateConfigurationSet": _with("ses:CreateConfigurationSet"),
    "ListConfigurationSets": _with("ses:ListConfigurationSets"),
    "GetConfigurationSet": _with(
        "ses:DescribeConfigurationSet",
        "ses:GetConfigurationSet",
        "ses:GetConfigurationSetEventDestinations",
    ),
    "UpdateConfigurationSetSending": _with(
        "ses:UpdateConfigurationSetSendingEnabled", "ses:PutConfigurationSetSendingOptions"
    ),
    "DeleteConfigurationSet": _with("ses:DeleteConfigurationSet"),
    "CreateEventDestination": _with("ses:CreateConfigurationSetEventDestination"),
    "UpdateEventDestination": _with("ses:UpdateConfigurationSetEventDestination"),
    "DeleteEventDestination": _with("ses:DeleteConfigurationSetEventDestination"),
    # Tags of identities and configuration sets; of topics.
    "TagResource": _with("ses:TagResource"),
    "UntagResource": _with("ses:UntagResource"),
    "ListTagsForResource": _with(
        "ses:ListTagsForResource", "ses:GetEmailIdentity", "ses:GetConfigurationSet"
    ),
    "TagTopic": _with("sns:TagResource"),
    "UntagTopic": _with("sns:UntagResource"),
    "ListTagsOfTopic": _with("sns:ListTagsForResource"),
    # Suppression lists. That an owner's list is for delegates too is a use of the list.
    "PutSuppressedDestination": _with("ses:PutSuppressedDestination"),
    "GetSuppressedDestination": _with("ses:GetSuppressedDestination"),
    "ListSuppressedDestinations": _with("ses:ListSuppressedDestinations"),
    "DeleteSuppressedDestination": _with("ses:DeleteSuppressedDestination"),
    "ImportSuppressedDestinations": _with("ses:CreateImportJob"),
    "GetAccountSuppression": _with("ses:GetAccount"),
    "SetAccountSuppression": _with("ses:PutAccountSuppressionAttributes"),
    "SetConfigurationSetSuppression": _with("ses:PutConfigurationSetSuppressionOptions"),
    "SetIdentitySuppression": _with("ses:PutAccountSuppressionAttributes"),
    # Templates. Messages of one need the right to send with the identity too.
    "CreateTemplate": _with("ses:CreateTemplate", "ses:CreateEmailTemplate"),
    "GetTemplate": _with("ses:GetTemplate", "ses:GetEmailTemplate"),
    "ListTemplates": _with("ses:ListTemplates", "ses:ListEmailTemplates"),
    "UpdateTemplate": _with("ses:UpdateTemplate", "ses:UpdateEmailTemplate"),
    "DeleteTemplate": _with("ses:DeleteTemplate", "ses:DeleteEmailTemplate"),
    "TestRenderTemplate": _with("ses:TestRenderTemplate", "ses:TestRenderEmailTemplate"),
    "SendTemplate": _with("ses:SendTemplatedEmail", "ses:SendBulkTemplatedEmail"),
    # Sending limits. An account does not lift its own; within them its root limits others.
    "GetQuota": _with("ses:GetSendQuota", "ses:GetAccount"),
    "SetAccountQuota": _OPERATORS,
    "SetUserQuota": _ROOT,
    "SetAccessKeyQuota": _ROOT,
    "SetIdentityQuota": _ROOT,
    # Reputations. An account that was paused for its rates does not resume itself; the owner of
    # an identity pauses and resumes others on it, as a policy of the identity could.
    "ListReputations": _with("ses:GetAccount", "ses:ListReputationEntities"),
    "GetReputation": _with("ses:GetAccount", "ses:GetReputationEntity"),
    "ResumeReputation": _OPERATORS,
    "GetIdentityReputations": _with("ses:GetReputationEntity", "ses:ListReputationEntities"),
    "PauseDelegate": _with(
        "ses:PutIdentityPolicy",
        "ses:UpdateEmailIdentityPolicy",
        "ses:UpdateReputationEntityCustomerManagedStatus",
    ),
    "ResumeDelegate": _with(
        "ses:PutIdentityPolicy",
        "ses:UpdateEmailIdentityPolicy",
        "ses:UpdateReputationEntityCustomerManagedStatus",
    ),
    "RateDelegates": _with("ses:UpdateReputationEntityPolicy"),
    "UpdateConfigurationSetReputationMetrics": _with(
        "ses:UpdateConfigurationSetReputationMetricsEnabled",
        "ses:PutConfigurationSetReputationOptions",
    ),
    # The journal, of which an account has its own view: what it sent, and what was sent with
    # its identities.
    "SearchJournal": _with("ses:GetMessageInsights"),
    "GetMessage": _with("ses:GetMessageInsights"),
    "GetUsage": _with("ses:GetSendStatistics", "ses:BatchGetMetricData"),
    "GetImpact": _with("ses:GetMessageInsights"),
    # The outbox, of which an account sees what its own settings brought about.
    "ListOutbox": _with("ses:GetMessageInsights"),
    "GetOutboxTask": _with("ses:GetMessageInsights"),
    "RetryOutboxTasks": _OPERATORS,
    "DropOutboxTasks": _OPERATORS,
    "GetJournalStatus": _OPERATORS,
    "UpgradeJournal": _OPERATORS,
    # Decisions about messages that nobody sends. The answers name statements of all accounts.
    "Simulate": _OPERATORS,
    "ListAccess": _OPERATORS,
    # The directory as a whole.
    "ApplyDocuments": _OPERATORS,
    "ExportDocuments": _OPERATORS,
    "ReadAuditLog": _OPERATORS,
    "MaintainDirectory": _OPERATORS,
}
