"""The table of operations: which function answers which call."""

from collections.abc import Mapping
from typing import Final

from smtpgate.api import identity_policies, quota, sending
from smtpgate.api.call import Handler

HANDLERS: Final[Mapping[str, Mapping[str, Handler]]] = {
    "ses": {**identity_policies.V1, **sending.V1, **quota.V1},
    "sesv2": {**identity_policies.V2, **sending.V2, **quota.V2},
    "sts": {},
    "iam": {},
    "sns": {},
}
