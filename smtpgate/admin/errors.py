"""The errors of the use cases: each has a text for the person who asked."""

from collections.abc import Sequence
from typing import Final

from smtpgate.config.toml import FileProblemsError
from smtpgate.core.policy import Finding
from smtpgate.core.proof.dkim_stages import StageError
from smtpgate.directory import change
from smtpgate.directory.sealing import MasterKeyError, SealError
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.upgrade import SchemaError

RefusedChangeError = change.RefusedChangeError
NotFoundError = change.NotFoundError
MissingSetError = change.MissingSetError
MissingTopicError = change.MissingTopicError
ConflictError = change.ConflictError


class NotAuthorizedError(Exception):
    """An operation that the caller may not do, whether the resource exists or not."""

    def __init__(self, caller_arn: str, action: str, resource: str) -> None:
        super().__init__(
            f"User: {caller_arn} is not authorized to perform: {action} on resource: {resource}"
        )
        self.action = action
        self.resource = resource


class PolicyFindingsError(RefusedChangeError):
    """A policy that was not saved because of its findings; some of them may be warnings."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        super().__init__(
            "\n".join(
                f"policy `{name}': {finding.path}: {finding.message}"
                for finding in findings
                if finding.severity == "error"
            )
        )
        self.findings = tuple(findings)


class OvertakenError(Exception):
    """An identity that other processes changed at each attempt to change it."""


class ConfirmationNotSentError(Exception):
    """A token that did not reach its endpoint; the text says why."""


class NoticeNotKeptError(Exception):
    """A change that was made, whose message to a topic is not kept; the text says why."""


class CodeNotSentError(Exception):
    """A code that was not mailed; the text says why, and nothing has changed."""


class CodeRefusedError(Exception):
    """An attempt to prove an address with a code that failed; the text says what to do.

    ``needs_another`` means that no further attempt can succeed without another code.
    """

    def __init__(self, text: str, *, needs_another: bool) -> None:
        super().__init__(text)
        self.needs_another = needs_another


class InvalidQuestionError(Exception):
    """A question that has no answer as it was asked; the text says what is wrong with it."""


class AmbiguousIdError(Exception):
    """A beginning that several ids have; ``candidates`` are the newest of them."""

    def __init__(self, beginning: str, candidates: Sequence[str], *, are_all: bool) -> None:
        lines = [f"`{beginning}' is the beginning of several ids:", *candidates]
        if not are_all:
            lines.append("and of more, which are older")
        super().__init__("\n  ".join(lines))
        self.candidates = tuple(candidates)


# Every error that a use case may raise on purpose; anything else is a bug.
ADMIN_ERRORS: Final = (
    AmbiguousIdError,
    CodeNotSentError,
    CodeRefusedError,
    ConfirmationNotSentError,
    DirectoryUnavailableError,
    FileProblemsError,
    InvalidQuestionError,
    MasterKeyError,
    NotAuthorizedError,
    NoticeNotKeptError,
    OvertakenError,
    RefusedChangeError,
    SchemaError,
    SealError,
    StageError,
)
