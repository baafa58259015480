"""Real bounces of many servers: recipients, and whether they can be sent to again.

``pytest -s`` prints the figures by family of servers.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from smtpgate.core.feedback.report import FeedbackReport
from tests.support.cases import CASES
from tests.support.reports import read_report

_FOLDER: Final = CASES / "bounces"
_NO_BOUNCE: Final = {"vacation", "delivered"}
_LEAST: Final = 0.95


@dataclass(frozen=True)
class Reading:
    """One file: its verdict, and our report about it."""

    file: str
    expected: list[dict[str, Any]]
    report: FeedbackReport

    @property
    def family(self) -> str:
        return re.sub(r"-\d+\.eml$", "", self.file)

    @property
    def reasons(self) -> set[str]:
        return {one["reason"] for one in self.expected}

    @property
    def is_bounce(self) -> bool:
        return bool(self.reasons - _NO_BOUNCE - {"feedback"})

    def wrong(self) -> list[str]:
        """The recipients of which the address, or hard or not, is not as expected."""
        found = {
            one.address.casefold(): one.kind is not None and one.kind.is_hard
            for one in self.report.recipients
        }
        return [
            f"{self.file} {one['address']} {one['reason']}"
            for one in self.expected
            if one["reason"] not in _NO_BOUNCE
            and found.get(one["address"].casefold()) is not one["hard"]
        ]


@cache
def readings() -> tuple[Reading, ...]:
    lines = (_FOLDER / "expected.jsonl").read_text("utf-8").splitlines()
    return tuple(
        Reading(file, verdict["recipients"], read_report((_FOLDER / file).read_bytes()))
        for verdict in map(json.loads, lines)
        for file in [verdict["file"]]
    )


def test_the_corpus_has_a_verdict_for_each_file() -> None:
    assert {one.file for one in readings()} == {path.name for path in _FOLDER.glob("*.eml")}
    assert len(readings()) > 250


def test_of_real_bounces_recipients_and_hard_or_not_are_right_for_95_percent() -> None:
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    mistakes = []
    for reading in readings():
        total[reading.family] += len(
            [one for one in reading.expected if one["reason"] not in _NO_BOUNCE]
        )
        mistakes += reading.wrong()
        wrong[reading.family] += len(reading.wrong())
    for family in sorted(total):
        if total[family]:
            print(f"{family:24} {total[family] - wrong[family]:3} of {total[family]:3}")  # noqa: T201
    right = total.total() - wrong.total()
    print(f"all: {right} of {total.total()}, {right / total.total():.1%}")  # noqa: T201
    assert right / total.total() >= _LEAST, "\n".join(mistakes)


def test_nothing_that_is_no_bounce_is_taken_for_one() -> None:
    wrong = [
        (one.file, one.report.kind)
        for one in readings()
        if not one.is_bounce and one.report.kind in {"bounce", "delay"}
    ]
    assert not wrong


def test_every_complaint_of_the_corpus_is_taken_for_one() -> None:
    complaints = [one for one in readings() if one.reasons == {"feedback"}]
    assert len(complaints) > 8
    assert all(one.report.kind == "complaint" for one in complaints)


def test_a_delivery_and_answers_are_what_they_are() -> None:
    kinds = {one.file: one.report.kind for one in readings()}
    assert kinds["lhost-amazonses-13.eml"] == "delivery"
    answers = {one.file for one in readings() if one.reasons == {"vacation"}}
    assert {kinds[file] for file in answers} == {"answer"}


def test_status_codes_of_the_corpus_are_found_where_the_report_has_them() -> None:
    """Sisimai makes up a code such as 5.0.911 where the report has none."""
    pairs = [
        (one["status"], found.status)
        for reading in readings()
        if len(reading.expected) == len(reading.report.recipients)
        for one, found in zip(reading.expected, reading.report.recipients, strict=True)
        if re.fullmatch(r"[245]\.[0-9]\.[0-9]{1,2}", one["status"])
    ]
    same = [expected for expected, found in pairs if expected == found]
    assert len(pairs) > 100
    assert len(same) / len(pairs) > 0.9
