"""Records of submissions with their verdicts, as a journal has them in the end."""

from msgspec import structs

from smtpgate.core.events import SubmissionDone
from smtpgate.core.history.record import Record, beginning_of, verdict_of


def submission_record(
    done: SubmissionDone, *, keep_recipients: bool, keep_subject: bool
) -> Record:
    """The record of a submission with its verdict, as far as it has come by now."""
    known = beginning_of(done, keep_recipients=keep_recipients, keep_subject=keep_subject)
    verdict = verdict_of(done)
    if not keep_recipients:
        verdict = verdict.without_addresses
    return Record(**structs.asdict(known), **structs.asdict(verdict))
