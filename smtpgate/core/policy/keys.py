"""Condition keys: their types, their number of values, and their presence in requests.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonses.html
Those of tags of a message are the gate's own: SES has none. Names ignore letter case.
``presence`` is that in submissions through this gate: ``sometimes`` keys depend on the message
or the caller, ``never`` keys belong to other services or networks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from smtpgate.core.policy.problem import hint, shown

KeyType = Literal["string", "address", "arn", "bool", "date", "ip", "number"]
KeyPresence = Literal["always", "sometimes", "never"]


@dataclass(frozen=True, slots=True)
class Key:
    """One condition key; a name that ends in ``/`` is followed by a tag.

    ``is_lasting``: its values are the same for all messages from one client with the same
    principal, intent and addresses, recipients aside.
    """

    name: str
    type: KeyType
    presence: KeyPresence
    is_multivalued: bool = False
    is_lasting: bool = False


_ROWS: Final = (
    Key("ses:ApiVersion", "string", "always", is_lasting=True),
    Key("ses:ExportSourceType", "string", "never"),
    Key("ses:FeedbackAddress", "address", "sometimes", is_lasting=True),
    Key("ses:FromAddress", "address", "always", is_lasting=True),
    Key("ses:FromDisplayName", "string", "sometimes", is_lasting=True),
    Key("ses:MultiRegionEndpointId", "string", "never"),
    Key("ses:Recipients", "address", "always", is_multivalued=True),
    Key("ses:ReplicaRegion", "string", "never", is_multivalued=True),
    Key("ses:TenantName", "string", "never"),
    Key("smtpgate:MessageTag/", "string", "sometimes", is_multivalued=True, is_lasting=True),
    Key("smtpgate:MessageTagKeys", "string", "sometimes", is_multivalued=True, is_lasting=True),
    Key("aws:AssumedRoot", "string", "never"),
    Key("aws:CalledVia", "string", "never", is_multivalued=True),
    Key("aws:CalledViaFirst", "string", "never"),
    Key("aws:CalledViaLast", "string", "never"),
    Key("aws:ChatbotSourceArn", "arn", "never"),
    Key("aws:CurrentTime", "date", "always"),
    Key("aws:Ec2InstanceSourcePrivateIPv4", "ip", "never"),
    Key("aws:Ec2InstanceSourceVpc", "string", "never"),
    Key("aws:EpochTime", "date", "always"),
    Key("aws:FederatedProvider", "string", "never"),
    Key("aws:MultiFactorAuthAge", "number", "never"),
    Key("aws:MultiFactorAuthPresent", "bool", "never"),
    Key("aws:PrincipalAccount", "string", "always", is_lasting=True),
    Key("aws:PrincipalArn", "arn", "always", is_lasting=True),
    Key("aws:PrincipalIsAWSService", "bool", "never"),
    Key("aws:PrincipalOrgID", "string", "sometimes", is_lasting=True),
    Key("aws:PrincipalOrgPaths", "string", "never", is_multivalued=True),
    Key("aws:PrincipalServiceName", "string", "never"),
    Key("aws:PrincipalServiceNamesList", "string", "never", is_multivalued=True),
    Key("aws:PrincipalTag/", "string", "sometimes", is_lasting=True),
    Key("aws:PrincipalType", "string", "always", is_lasting=True),
    Key("aws:Referer", "string", "never"),
    Key("aws:RequestTag/", "string", "never"),
    Key("aws:RequestedRegion", "string", "always", is_lasting=True),
    Key("aws:ResourceAccount", "string", "always", is_lasting=True),
    Key("aws:ResourceOrgID", "string", "never"),
    Key("aws:ResourceOrgPaths", "string", "never", is_multivalued=True),
    Key("aws:ResourceTag/", "string", "never"),
    Key("aws:SecureTransport", "bool", "always", is_lasting=True),
    Key("aws:SourceAccount", "string", "never"),
    Key("aws:SourceArn", "arn", "never"),
    Key("aws:SourceIdentity", "string", "never"),
    Key("aws:SourceIp", "ip", "always", is_lasting=True),
    Key("aws:SourceOrgID", "string", "never"),
    Key("aws:SourceOrgPaths", "string", "never", is_multivalued=True),
    Key("aws:SourceVpc", "string", "never"),
    Key("aws:SourceVpcArn", "arn", "never"),
    Key("aws:SourceVpce", "string", "never"),
    Key("aws:TagKeys", "string", "never", is_multivalued=True),
    Key("aws:TokenIssueTime", "date", "never"),
    Key("aws:UserAgent", "string", "never"),
    Key("aws:userid", "string", "always", is_lasting=True),
    Key("aws:username", "string", "sometimes", is_lasting=True),
    Key("aws:ViaAWSService", "bool", "never"),
    Key("aws:VpcSourceIp", "ip", "never"),
    Key("aws:VpceAccount", "string", "never"),
    Key("aws:VpceOrgID", "string", "never"),
    Key("aws:VpceOrgPaths", "string", "never", is_multivalued=True),
)
KEYS: Final = {key.name.lower(): key for key in _ROWS}
_MULTIVALUED: Final = frozenset(name for name, key in KEYS.items() if key.is_multivalued)
_LASTING: Final = frozenset(name for name, key in KEYS.items() if key.is_lasting)
_FORM: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z][A-Za-z0-9_.-]*(?:/[^*?{}',\x00-\x1f\x7f]+)?"
)
# All names with these prefixes are known; services have their own prefixes.
_CLOSED: Final = ("aws:", "ses:", "smtpgate:")


def is_key(text: str) -> bool:
    """True if the text has the form of a condition key: ``prefix:Name`` or ``…/tag``."""
    return _FORM.fullmatch(text) is not None


def known_key(name: str) -> Key | None:
    """The row of the key, or ``None``."""
    prefix, slash, tag = name.lower().partition("/")
    return KEYS.get(prefix + slash if slash and tag else prefix)


def is_multivalued(name: str) -> bool:
    """True if one request can have several values of the key; only its name decides."""
    prefix, slash, _ = name.lower().partition("/")
    return prefix + slash in _MULTIVALUED


def is_of_message(key: str) -> bool:
    """True if the key can have another value for a message that is alike in all else."""
    name, slash, _ = key.lower().partition("/")
    return name + slash not in _LASTING


def _names() -> Iterator[str]:
    return (key.name for key in _ROWS)


def key_problem(name: str) -> str | None:
    """The problem of a key that is not known, or ``None``."""
    if not is_key(name):
        return f"{shown(name)} does not have the form of a condition key{hint(name, _names())}"
    if name.lower().startswith(_CLOSED) and known_key(name) is None:
        return f"unknown condition key {shown(name)}{hint(name, _names())}"
    return None
