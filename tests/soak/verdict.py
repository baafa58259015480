"""The end of a soak: replies to clients, messages of upstreams and rows of the gate compared.

An acknowledged message was taken exactly once. Any other was not taken at all, or the gate
calls it in doubt, or the client was gone before its reply. Nothing was taken twice.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.sql.database import sqlite_url
from tests.soak.deliveries import Attempt, Deliveries, Taken
from tests.support.journal import must_add_up, store_of
from tests.support.ledgers import used_24h
from tests.support.traffic import SUBJECTS

_DEFECTS: Final = ("error", "stray-error")
_SHOWN: Final = 5  # problems of a kind


@dataclass(frozen=True, slots=True)
class JournalRow:
    """A submission in the journal."""

    id: str
    outcome: str
    reason: str
    recipients: int
    upstream: str
    tried: tuple[str, ...]
    """The upstreams that were of no use for it, each with the cause."""


@dataclass(slots=True)
class Verdict:
    """The problems, of which there should be none, and the figures."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def say(self, kind: str, cases: Iterable[object]) -> None:
        """Note the cases as a problem, if there are any."""
        found = list(cases)
        if found:
            shown = ", ".join(map(str, found[:_SHOWN]))
            self.problems.append(f"{len(found)} {kind}: {shown}")


def journal_rows(state: Path) -> Iterator[JournalRow]:
    """The submissions of a gate that has ended."""
    with closing(sqlite3.connect(state / "journal.sqlite")) as file:
        found = file.execute(
            "SELECT id, outcome, reason, recipients, verdict FROM journal_records"
            " WHERE kind = 'submission'"
        )
        for its_id, outcome, reason, recipients, text in found:
            facts: dict[str, Any] = json.loads(text) if text else {}
            tried = tuple(f"{one[0]} {one[1]}" for one in facts.get("tried", ()))
            yield JournalRow(
                its_id, outcome, reason, recipients, facts.get("upstream") or "", tried
            )


def judge(
    attempts: Sequence[Attempt], deliveries: Deliveries, rows: Sequence[JournalRow]
) -> Verdict:
    """Compare the three."""
    verdict, by_id = Verdict(), {row.id: row for row in rows}
    taken = deliveries.taken
    verdict.say(
        "taken more than once", [f"{n}: {all_}" for n, all_ in taken.items() if len(all_) > 1]
    )
    _judge_answers(verdict, attempts, taken, by_id)
    names = {one.name for one in attempts}
    verdict.say("taken that no client sent", taken.keys() - names)
    arrived = {one.id: one for all_ in taken.values() for one in all_}
    verdict.say(
        "taken without an accepted or doubtful row",
        [
            i
            for i in arrived
            if i not in by_id or by_id[i].outcome not in ("accepted", "in-doubt")
        ],
    )
    verdict.say(
        "accepted by the journal and not taken, or by another upstream",
        [
            row
            for row in rows
            if row.outcome == "accepted"
            and (row.id not in arrived or arrived[row.id].upstream != row.upstream)
            and row.reason == "accepted"
        ],
    )
    verdict.say("still open in the journal", [row for row in rows if row.outcome == "relaying"])
    verdict.say("internal errors", [row.id for row in rows if row.reason == "internal-error"])
    outcomes = Counter(row.outcome for row in rows)
    verdict.figures |= {
        "attempts": len(attempts),
        "acknowledged": sum(one.code == "250" for one in attempts),
        "taken": sum(map(len, taken.values())),
        "reports of the gate": deliveries.reports,
        "journal": dict(outcomes),
        "with failover": sum(bool(row.tried) for row in rows),
        "failovers": dict(Counter(one for row in rows for one in row.tried).most_common(12)),
        "replies": dict(Counter(one.code or "none" for one in attempts).most_common()),
        "reasons": dict(Counter(row.reason for row in rows).most_common(8)),
    }
    return verdict


def _judge_answers(
    verdict: Verdict,
    attempts: Sequence[Attempt],
    taken: dict[str, list[Taken]],
    by_id: dict[str, JournalRow],
) -> None:
    """Each client's answer is as it was."""
    lost, invented, partial, unknown = [], [], [], []
    for one in attempts:
        arrived = len(taken.get(one.name, ()))
        row = by_id.get(one.id)
        if one.code == "250" and arrived != 1:
            lost.append(one)
        is_doubtful = row is not None and row.outcome == "in-doubt"
        if one.code and one.code != "250" and arrived and not is_doubtful:
            invented.append((one, row))
        if arrived and not one.is_complete:
            partial.append(one)
        if one.id and row is None:
            unknown.append(one)
    verdict.say("acknowledged and not taken once", lost)
    verdict.say("refused and taken, and not in doubt", invented)
    verdict.say("taken though the client had not sent all", partial)
    verdict.say("answered with an id that the journal lacks", unknown)


async def judge_sums(
    verdict: Verdict, state: Path, attempts: Sequence[Attempt], rows: Sequence[JournalRow]
) -> None:
    """The ledger has counted what was accepted, and at most what is in doubt besides."""
    ledger, now = SqliteLedger(state / "ledger.sqlite"), datetime.now(UTC)
    try:
        used = [await used_24h(ledger, subject, now) for subject in SUBJECTS]
    finally:
        await ledger.close()
    sure = sum(row.recipients for row in rows if row.outcome == "accepted")
    unsure = sum(row.recipients for row in rows if row.outcome == "in-doubt")
    # A worker that is killed between its reservation and its row leaves a reservation open.
    killed = sum(one.recipients for one in attempts if one.is_complete and not one.code)
    if len(set(used)) != 1 or not sure <= used[0] <= sure + unsure + killed:
        verdict.problems.append(
            f"the ledger counted {used}, the journal {sure}..{sure + unsure}"
        )
    verdict.figures["recipients counted"] = f"{used[0]} ({sure} accepted, {unsure} in doubt)"
    store = store_of(sqlite_url(state / "journal.sqlite"), state)
    try:
        await must_add_up(store)
    except AssertionError as error:
        verdict.problems.append(f"the sums of the journal: {str(error)[:500]}")
    finally:
        await store.close()


def judge_log(verdict: Verdict, logs: Iterable[Path]) -> None:
    """No log has a defect."""
    events: Counter[str] = Counter()
    for path in logs:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("{"):
                    with_event = json.loads(line)
                    events[with_event["event"]] += 1
                    if with_event["event"] in _DEFECTS and len(verdict.problems) < 50:
                        verdict.problems.append(line.strip()[:1000])
                elif "Traceback" in line:
                    verdict.problems.append(f"a traceback in {path}")
    verdict.figures["log events"] = dict(events.most_common(14))
