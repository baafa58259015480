"""The table of operations: which function answers which call."""

from collections.abc import Mapping
from typing import Final

from smtpgate.api import (
    accounts,
    callers,
    configuration_sets,
    dkim,
    email_identities,
    identities,
    identity_policies,
    insights,
    notifications,
    quota,
    sending,
    suppression,
    tags,
    templated,
    templates,
    topics,
)
from smtpgate.api.call import Handler

SENDS: Final = frozenset(
    {
        "SendBulkEmail",
        "SendBulkTemplatedEmail",
        "SendEmail",
        "SendRawEmail",
        "SendTemplatedEmail",
    }
)
"""The operations that the sending limits bound, in place of the rate of calls."""

HANDLERS: Final[Mapping[str, Mapping[str, Handler]]] = {
    "ses": {
        **accounts.V1,
        **configuration_sets.V1,
        **dkim.V1,
        **identities.V1,
        **identity_policies.V1,
        **notifications.V1,
        **quota.V1,
        **sending.V1,
        **templated.V1,
        **templates.V1,
    },
    "sesv2": {
        **accounts.V2,
        **configuration_sets.V2,
        **dkim.V2,
        **email_identities.V2,
        **identities.V2,
        **identity_policies.V2,
        **insights.V2,
        **notifications.V2,
        **quota.V2,
        **suppression.V2,
        **templated.V2,
        **templates.V2,
        **tags.V2,
    },
    "sts": callers.STS,
    "iam": callers.IAM,
    "sns": topics.SNS,
}
