"""The table of operations: which function answers which call."""

from collections.abc import Mapping
from typing import Final

from smtpgate.api import callers, identities, identity_policies, quota, sending
from smtpgate.api.call import Handler

HANDLERS: Final[Mapping[str, Mapping[str, Handler]]] = {
    "ses": {**identities.V1, **identity_policies.V1, **sending.V1, **quota.V1},
    "sesv2": {**identities.V2, **identity_policies.V2, **sending.V2, **quota.V2},
    "sts": callers.STS,
    "iam": callers.IAM,
    "sns": {},
}
