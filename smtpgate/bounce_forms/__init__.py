"""Bounces in forms of single servers: flufl.bounce is asked where the core finds nothing."""

from smtpgate.core.feedback.mime import read_message
from smtpgate.core.feedback.notice import is_of_mail_system, notice_text
from smtpgate.core.feedback.read import read_parts, report_about
from smtpgate.core.feedback.report import FeedbackReport

__all__ = ["read_any_report"]


def read_any_report(octets: bytes) -> FeedbackReport:
    """Read a message that came back, in any form. Never raises.

    It takes up to a second of a processor, so an event loop calls it in a thread.
    """
    message = read_message(octets)
    report = read_parts(message)
    if report.kind != "none" or not is_of_mail_system(message.fields):
        return report
    # Few reports need it, and Python's `email' with it.
    from smtpgate.bounce_forms.detectors import detected  # noqa: PLC0415

    recipients = detected(message)
    return report_about(recipients, report, notice_text(message)) if recipients else report
