"""``smtpgate key watch``: access keys whose use differs from before."""

from typing import Annotated, Final

import typer

from smtpgate.admin import key_watch, keys
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.key_watch import PastReport
from smtpgate.admin.keys import KeyDetails
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import KeyArgument, OwnerOption
from smtpgate.cli.journal_session import run
from smtpgate.cli.key_view import key_fields
from smtpgate.cli.listing import View, print_facts, print_pages
from smtpgate.cli.moments import Since, moment_option
from smtpgate.cli.session import run as run_in_directory
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, Limit, example, option
from smtpgate.core.watch.profile import Profile

watch_app: Final = typer.Typer(
    name="watch", help="Access keys whose use differs from before.", no_args_is_help=True
)

_PAST: Final[View[PastReport]] = View(
    columns={
        "when": lambda one: one.at,
        "access key": lambda one: one.key_id,
        "account": lambda one: one.account_id,
        "level": lambda one: one.assessment.level,
        "score": lambda one: one.assessment.score,
        "what differs": lambda one: [finding.text for finding in one.assessment.findings],
    },
    fields=lambda one: {
        "at": one.at,
        "access_key": one.key_id,
        "account": one.account_id,
        "user": one.user_arn,
        "message": one.message_id,
        "level": one.assessment.level,
        "score": one.assessment.score,
        "findings": [
            {
                "signal": finding.signal,
                "weight": finding.weight,
                "figure": finding.figure,
                "usual": finding.usual,
                "text": finding.text,
            }
            for finding in one.assessment.findings
        ],
    },
    nothing="nothing would have been reported",
)


_OPEN: Final[View[KeyDetails]] = View(
    columns={
        "access key": lambda key: key.id,
        "owner": lambda key: key.owner,
        "alarm": lambda key: key.watch_state,
        "since": lambda key: key.watch_since,
        "what differs": lambda key: key.watch_reason,
    },
    fields=key_fields,
    nothing="no access key has an alarm that is open",
)


@watch_app.command("list", epilog=example("key watch list"))
def list_(
    owner: OwnerOption = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List access keys with an open alarm: their use differs from before.

    It ends with `key confirm' if the use is the owner's, or with `key resume'.
    """

    async def operation(session: Session) -> None:
        found = keys.pages(
            session,
            owner.account_id if owner else None,
            owner.user_name if owner else None,
            is_watched=True,
            limit=limit,
        )
        await print_pages(found, _OPEN, as_json=json)

    run_in_directory(config, operation)


@watch_app.command(epilog=example("key watch show AKIAIOSFODNN7EXAMPLE"))
def show(
    key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show what is usual for an access key, as the gates have written it last."""
    found = run_in_directory(config, lambda session: key_watch.history(session, key_id))
    print_facts({**key_fields(found.key), **_usual(found.profile)}, as_json=json)


def _usual(profile: Profile | None) -> dict[str, object]:
    if profile is None:
        return {"days_of_use": 0}
    days = [its for its in profile.days.values() if not its.has_alarm]
    return {
        "days_of_use": len(days),
        "most_recipients_in_an_hour": max((its.peak for its in days), default=0),
        "most_recipients_in_a_day": max((its.recipients for its in days), default=0),
        "most_new_recipients_in_a_day": max((its.new_recipients for its in days), default=0),
        "most_refusals_in_a_day": max((its.refused for its in days), default=0),
        "most_bounces_in_a_day": max((its.bounced for its in days), default=0),
        "used_from": sorted(profile.networks),
        "from_domains": sorted(profile.domains),
        "from_addresses": len(profile.authors.spans) * profile.authors.weight,
    }


@watch_app.command(epilog=example("key watch replay --since 30d"))
def replay(
    key: Annotated[str | None, option(metavar="KEY", help="Of this access key alone.")] = None,
    since: Since = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show what would have been reported about the journal's records, oldest first.

    The watch begins there without a history: nothing is reported in the first days.
    """
    begin = moment_option(since, "--since")

    async def operation(session: JournalSession) -> None:
        found = key_watch.replay(session, since=begin, key_id=key)
        await print_pages(found, _PAST, as_json=json)

    run(config, operation)
