"""The request context: the values of condition keys for one submission.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from smtpgate.core.account import Principal
from smtpgate.core.policy import Caller, Context, Request

if TYPE_CHECKING:  # an administrative session needs the context of a principal alone
    from smtpgate.core.address import Mailbox
    from smtpgate.core.identity import Identity
    from smtpgate.core.message.author import Author
    from smtpgate.core.message.envelope import Submission
    from smtpgate.core.message.event_fields import MessageTags

Values = dict[str, tuple[str, ...]]
_API_VERSION: Final = "2"  # that of SMTP, by the SES developer guide


def principal_context(principal: Principal, region: str) -> Values:
    """The keys that are the same for every submission of a principal."""
    context: Values = {
        "ses:apiversion": (_API_VERSION,),
        "aws:principalarn": (principal.arn,),
        "aws:principalaccount": (principal.account.id,),
        "aws:principaltype": ("Account" if principal.is_root else "User",),
        "aws:userid": (principal.user_id,),
        "aws:requestedregion": (region,),
    }
    if principal.user_name is not None:
        context["aws:username"] = (principal.user_name,)
    if principal.account.organization_id is not None:
        context["aws:principalorgid"] = (principal.account.organization_id,)
    for key, value in principal.tags:
        context[f"aws:principaltag/{key.lower()}"] = (value,)
    return context


def circumstances(at: datetime, address: str | None, *, is_encrypted: bool) -> Context:
    """The keys of every request: its time, address and encryption."""
    context = {
        **_time(int(at.timestamp())),
        "aws:securetransport": ("true" if is_encrypted else "false",),
    }
    if address is not None:
        context["aws:sourceip"] = (address,)
    return context


@lru_cache(maxsize=2)  # the messages of one second share it
def _time(second: int) -> Context:
    at = datetime.fromtimestamp(second, UTC)
    return {
        "aws:currenttime": (f"{at:%Y-%m-%dT%H:%M:%SZ}",),
        "aws:epochtime": (str(second),),
    }


def submission_context(submission: Submission, region: str, tags: MessageTags = ()) -> Context:
    """The keys that are the same for every From mailbox of a submission with those tags."""
    envelope, client = submission.envelope, submission.client
    context = principal_context(submission.principal, region)
    context |= circumstances(submission.received_at, client.address, is_encrypted=client.is_tls)
    context["ses:recipients"] = recipient_values(envelope.mailboxes)
    if envelope.reverse_path.mailbox is not None:
        context["ses:feedbackaddress"] = (envelope.reverse_path.mailbox.text,)
    if tags:
        context.update(tag_values(tags))
    return context


def tag_values(tags: MessageTags) -> Context:
    """The keys of tags. Names of keys ignore letter case, so such names are one."""
    context: dict[str, tuple[str, ...]] = {}
    for name, values in tags:
        key = f"smtpgate:messagetag/{name.lower()}"
        context[key] = context.get(key, ()) + values
    context["smtpgate:messagetagkeys"] = tuple([name for name, _ in tags])
    return context


def recipient_values(recipients: Iterable[Mailbox]) -> tuple[str, ...]:
    """Each recipient, and each mailbox to which the next server may route it instead."""
    values: dict[str, None] = {}
    for recipient in recipients:
        values[recipient.text] = None
        if not recipient.local_part.isalnum():
            values.update((other.text, None) for other in recipient.routes())
    return tuple(values)


def identity_request(
    caller: Caller, action: str, identity: Identity, author: Author, context: Context
) -> Request:
    """The request of the policies: an action of a caller on an identity, as that author.

    ``context`` has the keys of the request without those of the identity and the author.
    """
    whole = author_context(context, author)
    whole["aws:resourceaccount"] = (identity.arn.account_id,)
    return Request(caller, action, identity.arn.text, whole)


def author_context(context: Context, author: Author) -> Values:
    """The context with the keys of one From mailbox."""
    found = {**context, "ses:fromaddress": (author.mailbox.text,)}
    if author.display_name is not None:
        found["ses:fromdisplayname"] = (author.display_name,)
    return found
