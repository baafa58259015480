"""The events of a message, and sums of mail by day; of version 2 alone.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetMessageInsights.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_BatchGetMetricData.html
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from smtpgate.admin.errors import AmbiguousIdError, NotFoundError
from smtpgate.admin.explained import Explained, explained
from smtpgate.admin.statistics import DailyQuestion, DailySums, daily_sums
from smtpgate.api.call import Call, Handler, Values
from smtpgate.api.names import own_identity
from smtpgate.core.api.faults import ApiError
from smtpgate.core.history.kept_event import KeptEvent
from smtpgate.core.outbox.event import BounceDetail, ComplaintDetail, EventKind, EventRecipient

_TYPES: Final[Mapping[EventKind, str]] = {
    "Reject": "REJECT",
    "Bounce": "BOUNCE",
    "Complaint": "COMPLAINT",
    "Delivery": "DELIVERY",
    "DeliveryDelay": "DELIVERY_DELAY",
    "RenderingFailure": "RENDERING_FAILURE",
}
_METRICS: Final[Mapping[str, str]] = {
    "SEND": "sent",
    "DELIVERY": "deliveries",
    "PERMANENT_BOUNCE": "hard_bounces",
    "TRANSIENT_BOUNCE": "soft_bounces",
    "COMPLAINT": "complaints",
}
_DIMENSIONS: Final = ("EMAIL_IDENTITY", "CONFIGURATION_SET")
_MOST_VALUES: Final = 20_000


# -- a message ---------------------------------------------------------------------------------


async def message_insights(call: Call) -> Values:
    """A message of the caller's account, with the events of each recipient."""
    message_id = call.text("MessageId")
    try:
        found = await explained(await call.journal_session(), message_id)
    except (NotFoundError, AmbiguousIdError):
        raise _no_message(message_id) from None
    record = found.record
    is_whole = record.id == message_id.strip().lower()
    if record.kind != "submission" or record.account_id != call.account_id or not is_whole:
        raise _no_message(message_id)
    return {
        "MessageId": record.id,
        "FromEmailAddress": str(record.authors[0].mailbox) if record.authors else None,
        "Subject": record.subject,
        "EmailTags": [
            {"Name": name, "Value": value}
            for name, values in record.intent.tags
            for value in values
        ],
        "Insights": _insights(found),
    }


def _insights(found: Explained) -> list[dict[str, Any]]:
    """The events by recipients; a journal without addresses has them of one without a name."""
    record = found.record
    events: dict[str, list[dict[str, Any]]] = {
        str(one): [] for one in record.forward_paths or ()
    }
    if record.outcome == "accepted":
        sent = {"Timestamp": record.done_at, "Type": "SEND"}
        for address in list(events) or [""]:
            events.setdefault(address, []).append(sent)
    for event in found.later.events:
        if event.kind in _TYPES:
            for recipient in event.recipients or (EventRecipient(""),):
                address = _as_sent(recipient, events)
                events.setdefault(address, []).append(_event(event, recipient))
    return [{"Destination": name or None, "Events": its} for name, its in events.items()]


def _as_sent(recipient: EventRecipient, known: Collection[str]) -> str:
    """The recipient that the message was sent to, in the spelling that it was sent with."""
    names = (recipient.original.rpartition(";")[2].lower(), recipient.address.lower())
    return next((one for one in known if one.lower() in names), recipient.address)


def _event(event: KeptEvent, recipient: EventRecipient) -> dict[str, Any]:
    found: dict[str, Any] = {"Timestamp": event.at, "Type": _TYPES[event.kind]}
    match event.detail:
        case BounceDetail(bounce=bounce):
            its = {
                "BounceType": bounce.type.upper(),
                "BounceSubType": bounce.subtype,
                "DiagnosticCode": recipient.diagnostic or None,
            }
            found["Details"] = {"Bounce": its}
        case ComplaintDetail(subtype=subtype, feedback_type=feedback_type):
            its = {
                "ComplaintSubType": subtype or None,
                "ComplaintFeedbackType": feedback_type,
            }
            found["Details"] = {"Complaint": its}
    return found


def _no_message(message_id: str) -> ApiError:
    return ApiError("not-found", f"Message {message_id[:100]} does not exist.")


# -- sums by day -------------------------------------------------------------------------------


async def metric_data(call: Call) -> Values:
    """The sums of each day of each query, in recipients; of all days in its time."""
    session = await call.journal_session()
    queries: Sequence[Values] = call.values["Queries"]
    asked = [_asked(call, query) for query in queries]
    if sum((one.until - one.since).days + 1 for one in asked) > _MOST_VALUES:
        raise ApiError("invalid-value", f"At most {_MOST_VALUES} values can be asked for.")
    kept: dict[DailyQuestion, Sequence[DailySums]] = {}
    results = []
    for query, question in zip(queries, asked, strict=True):
        if question not in kept:
            kept[question] = await daily_sums(session, question)
        days, name = kept[question], _METRICS[query["Metric"]]
        results.append(
            {
                "Id": query["Id"],
                "Timestamps": [one.day for one in days],
                "Values": [getattr(one, name) for one in days],
            }
        )
    return {"Results": results, "Errors": []}


def _asked(call: Call, query: Values) -> DailyQuestion:
    """The question of a query. Raises ApiError for what is not counted here."""
    metric, dimensions = query["Metric"], query.get("Dimensions") or {}
    if metric not in _METRICS:
        wanted = ", ".join(_METRICS)
        raise _not_counted(query, f"Metric {metric} is not counted; there are {wanted}")
    if metric == "SEND" and "CONFIGURATION_SET" in dimensions:
        raise _not_counted(query, "SEND is not counted by CONFIGURATION_SET")
    for name in dimensions:
        if name not in _DIMENSIONS:
            wanted = " and ".join(_DIMENSIONS)
            raise _not_counted(query, f"Dimension {name} is not counted; there are {wanted}")
    since, until = query["StartDate"], query["EndDate"]
    if since > until:
        raise _not_counted(query, "StartDate is after EndDate")
    identity = dimensions.get("EMAIL_IDENTITY")
    return DailyQuestion(
        since=since,
        until=until,
        identity=None if identity is None else own_identity(call, identity),
        configuration_set=dimensions.get("CONFIGURATION_SET"),
    )


def _not_counted(query: Values, text: str) -> ApiError:
    return ApiError("invalid-value", f"Query {query['Id'][:100]}: {text}.")


V2: Final[Mapping[str, Handler]] = {
    "GetMessageInsights": message_insights,
    "BatchGetMetricData": metric_data,
}
