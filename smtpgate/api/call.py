"""One call of the API: who calls which operation, with which values, and its surroundings."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from smtpgate.admin.journal import JournalSession
from smtpgate.admin.session import Session, principal_session
from smtpgate.admin.topics import Confirmer
from smtpgate.admission import Admission
from smtpgate.api.bounds import CallBounds
from smtpgate.api.doubts import Doubts
from smtpgate.config import Config
from smtpgate.core.account import AccessKey, Principal
from smtpgate.core.api.faults import ApiError
from smtpgate.core.message.envelope import Client
from smtpgate.directory.store import DirectoryStore
from smtpgate.journal.reader import JournalReader
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, Directory, EventSink, Ledger, Upstream

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """The parts of the gate that calls use."""

    config: Config
    store: DirectoryStore
    directory: Directory
    ledger: Ledger
    journal: Callable[[], Awaitable[JournalReader | None]]
    pipeline: Pipeline
    admission: Admission
    upstream: Upstream
    confirmer: Confirmer
    events: EventSink
    clock: Clock
    doubts: Doubts
    new_message_id: Callable[[datetime], str]
    new_request_id: Callable[[], str]
    on_error: Callable[[BaseException], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose signature is right and whose values hold the model's constraints."""

    parts: ApiParts
    bounds: CallBounds
    service: str
    operation: str
    values: Values
    key: AccessKey
    client: Client
    request_id: str
    at: datetime
    attempt: str = ""  # the same for each attempt of one call (see doubts.py)

    @property
    def principal(self) -> Principal:
        """The caller."""
        return self.key.principal

    @property
    def account_id(self) -> str:
        """The caller's account."""
        return self.key.principal.account.id

    def session(self) -> Session:
        """A session of the use cases, with the caller's rights."""
        parts = self.parts
        return principal_session(
            parts.config,
            parts.store,
            parts.clock,
            self.principal,
            origin=f"api {self.request_id}",
            address=self.client.address,
            is_encrypted=self.client.is_tls,
        )

    async def journal_session(self) -> JournalSession:
        """A session of the journal's use cases, with the caller's rights. Raises ApiError."""
        parts = self.parts
        reader = await parts.journal()
        if reader is None:
            text = "This gate keeps no journal, so it has no history (journal.enabled)."
            raise ApiError("not-served", text)
        return JournalSession(
            config=parts.config,
            clock=parts.clock,
            caller=self.principal,
            address=self.client.address,
            is_encrypted=self.client.is_tls,
            reader=reader,
        )

    def count_new_keys(self) -> None:
        """A domain's keys are made for this call. Raises ApiError when that is too often."""
        self.bounds.count_new_keys(self.client)

    def text(self, name: str, default: str = "") -> str:
        """The text of a value that may be absent."""
        found: str = self.values.get(name) or default
        return found


Handler: TypeAlias = Callable[[Call], Awaitable[Values]]


@contextmanager
def as_fault(error: type[Exception], fault: ApiError) -> Iterator[None]:
    """Answer with the fault where a use case raises that error."""
    try:
        yield
    except error:
        raise fault from None
