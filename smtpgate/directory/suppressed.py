"""Questions of the path to suppression lists: which of these addresses are on a list.

A list may have millions of addresses, so it is never in memory, only the last answers. The
questions of messages that arrive while one is asked are one query together.
"""

import asyncio
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from smtpgate.core.suppression.lists import SuppressionReason
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.suppression import ListKey, reasons_of
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.tasks import TaskOwner

# Each takes some 300 octets.
_MAX_ANSWERS: Final = 20_000
_LOAD_S: Final = 5

_Question = tuple[str, str]
"""An account, and an address in the spelling of lists."""
_Answers = dict[_Question, SuppressionReason | None]


class _Known(Struct, frozen=True, gc=False):
    """An answer, and how often the list had been changed by then."""

    changes: int
    reason: SuppressionReason | None


class SuppressedAddresses:
    """Answers from a bounded cache, or from the database."""

    def __init__(self, store: DirectoryStore, tasks: TaskOwner) -> None:
        self._store = store
        self._tasks = tasks
        self._known: OrderedDict[_Question, _Known] = OrderedDict()
        self._changes: Counter[str] = Counter()  # by account
        self._waiting: dict[_Question, None] = {}
        self._load: asyncio.Task[_Answers] | None = None
        self._turn = asyncio.Lock()
        self._generation = 0

    def __len__(self) -> int:
        return len(self._known)

    async def find(
        self, account_id: str, addresses: Sequence[str]
    ) -> dict[str, SuppressionReason]:
        """Those of the addresses that are on an account's list, with their reasons.

        Raises DirectoryUnavailableError.
        """
        found: _Answers = {}
        missing: list[_Question] = []
        for address in addresses:
            question = account_id, address
            known = self._known.get(question)
            if known is not None and known.changes == self._changes[account_id]:
                self._known.move_to_end(question)
                found[question] = known.reason
            else:
                missing.append(question)
        if missing:
            answers = await self._ask(missing)
            found |= {question: answers[question] for question in missing}
        return {address: reason for (_, address), reason in found.items() if reason is not None}

    def forget(self, account_id: str) -> None:
        """Use no more answers about the list of an account; they are dropped in their turn."""
        self._changes[account_id] += 1

    def forget_all(self) -> None:
        """Forget all answers."""
        self._generation += 1
        self._known = OrderedDict()

    async def _ask(self, questions: Sequence[_Question]) -> _Answers:
        self._waiting.update(dict.fromkeys(questions))
        if self._load is None:
            self._load = self._tasks.start(self._answer_all(), name="suppressed")
            # Perhaps no caller waits for its error any more.
            self._load.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            return await asyncio.shield(self._load)
        except asyncio.CancelledError:
            if self._is_closed():
                raise DirectoryUnavailableError("the directory was closed meanwhile") from None
            raise

    def _is_closed(self) -> bool:
        task = asyncio.current_task()
        return task is None or not task.cancelling()

    async def _answer_all(self) -> _Answers:
        """Ask for all that waits by the time that the last query is done."""
        async with self._turn:
            questions, self._waiting, self._load = self._waiting, {}, None
            generation, changes = self._generation, Counter(self._changes)
            try:
                async with asyncio.timeout(_LOAD_S):
                    answers = await self._read(questions)
            except TimeoutError:
                name = self._store.database.name
                raise DirectoryUnavailableError(
                    f"{name}: no answer within {_LOAD_S} s"
                ) from None
        if generation == self._generation:
            self._keep(answers, changes)
        return answers

    async def _read(self, questions: dict[_Question, None]) -> _Answers:
        by_account: defaultdict[str, list[str]] = defaultdict(list)
        for account_id, address in questions:
            by_account[account_id].append(address)
        answers: _Answers = dict.fromkeys(questions)
        for account_id, addresses in by_account.items():
            key = ListKey(account_id, self._store.region)
            found = await reasons_of(self._store.database, key, addresses)
            answers |= {(account_id, one): reason for one, reason in found.items()}
        return answers

    def _keep(self, answers: _Answers, changes: Counter[str]) -> None:
        """Keep answers that were read when lists had been changed so often."""
        for question, reason in answers.items():
            self._known[question] = _Known(changes[question[0]], reason)
        while len(self._known) > _MAX_ANSWERS:
            self._known.popitem(last=False)
