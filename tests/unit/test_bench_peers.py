"""The benchmark's arithmetic: reports, medians, spreads, ratios, and what counts as a loss."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.bench.peers import growth
from tests.bench.peers.load import GeneratorError, Load, Report
from tests.bench.peers.machine import TimedSignatures
from tests.bench.peers.messages import SIZES, message, unstuffed
from tests.bench.peers.peer import Peer, Running, Setup
from tests.bench.peers.results import record, section
from tests.bench.peers.run import Row, Run
from tests.bench.peers.sink import Counts
from tests.bench.peers.table import complaints, has_failed, median, spread, table

REPORT: Final = (
    '{"begun": 500, "accepted": 500, "deferred": 0, "refused": 0, "failed": 0, '
    '"connections": 50, "seconds": 2.0, "started_at": 100.5, "cpu_s": 0.02, '
    '"sum": 18446744073709551615, "unexpected": "", "p50_ms": 20.0, "p99_ms": 40.0, '
    '"longest_ms": 55.0, "login_p50_ms": 1.5}\n'
)
DELIVERED: Final = Counts(500, 500, 2_000_000, 2**64 - 1, 0, 0, 0, 0)
RUN: Final = Run(Report.parse(REPORT), DELIVERED, 2.0, 1.0, 0.05, 2.5, 2**27, 2**26, 0.25)
LOAD: Final = Load("4 KiB")


def _nothing(setup: Setup) -> Running:
    raise AssertionError(setup)


GATE: Final = Peer("smtpgate", _nothing, is_ours=True)
OTHER: Final = Peer("other", _nothing)


def _runs(*seconds: float) -> tuple[Run, ...]:
    return tuple(replace(RUN, delivered_s=taken) for taken in seconds)


def test_the_generator_s_report_is_read() -> None:
    report = Report.parse(REPORT)
    assert (report.accepted, report.sum, report.p99_ms) == (500, 2**64 - 1, 40.0)
    assert report.complaint == ""


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"begun": 1}', "usage: load"])
def test_other_output_is_no_report(text: str) -> None:
    with pytest.raises(GeneratorError):
        Report.parse(text)


def test_a_report_says_what_was_not_accepted_and_the_first_reply() -> None:
    report = replace(RUN.report, accepted=497, deferred=3, unexpected="451 4.3.0 Busy")
    assert report.complaint == "3 deferred (451 4.3.0 Busy)"
    assert replace(RUN.report, accepted=499).complaint == "1 without a reply"


def test_a_message_that_was_accepted_and_not_delivered_is_a_loss() -> None:
    assert RUN.loss == ""
    short = replace(RUN, delivered=replace(DELIVERED, messages=499))
    assert short.loss.startswith("500 accepted, 499 delivered")


def test_one_message_lost_and_another_delivered_twice_is_a_loss() -> None:
    other = replace(RUN, delivered=replace(DELIVERED, sum=7))
    assert other.loss == "500 accepted and delivered, but not the same messages"


def test_a_deferred_message_is_reported_and_is_no_failure() -> None:
    run = replace(RUN, report=replace(RUN.report, begun=501, deferred=1, unexpected="451 x"))
    row = Row(LOAD, OTHER, (run,))
    assert complaints(row) == ["1 deferred (451 x)"]
    assert not has_failed(row)


def test_a_peer_that_cannot_run_has_failed_and_a_skipped_one_has_not() -> None:
    assert has_failed(Row(LOAD, OTHER, error="ended with 1"))
    assert not has_failed(Row(LOAD, OTHER, skipped="not installed"))


def test_a_run_in_which_others_used_the_cpu_is_disturbed() -> None:
    assert not RUN.is_disturbed
    assert replace(RUN, others_s=0.5).is_disturbed


def test_counts_are_differences_also_where_the_sum_wraps() -> None:
    before = Counts(3, 4, 5, 2**64 - 2, 0, 1, 1, 0)
    after = Counts(10, 20, 50, 5, 0, 1, 1, 9)
    assert after.since(before) == Counts(7, 16, 45, 7, 0, 1, 1, 9)


def test_a_row_has_medians_and_spreads() -> None:
    row = Row(LOAD, OTHER, _runs(2.0, 2.5, 1.0))
    assert median(row, lambda run: run.delivered_per_s) == 250
    assert spread(row, lambda run: run.delivered_per_s) == (500 - 200) / 250


def test_the_table_has_the_ratios_of_the_gate_to_each_peer() -> None:
    slower = replace(RUN, cpu_s=2.0, delivered_s=4.0, report=replace(RUN.report, p50_ms=10.0))
    text = table([Row(LOAD, GATE, (RUN,)), Row(LOAD, OTHER, (slower,))])
    gate, other = text.splitlines()[2:4]
    assert gate == (
        "| 4 KiB (16 x 10) | **smtpgate** | 250 | 0% | 20.0 | 40.0 | 2.000 | 0% | 500 | 8.00 | "
        "128 (64) |  |  |  |  |"
    )
    assert other.endswith("| 4.000 | 0% | 250 | 16.0 | 128 (64) | 2.00 | 2.00 | 2.00 | 1.00 |")
    assert "Ratios are smtpgate divided by the peer in the same round; medians." in text
    assert "2 runs: 1000 messages accepted, 1000 delivered." in text
    assert "RSA-2048 signature: 250 µs (250 to 250)." in text


def test_the_table_says_why_a_peer_was_skipped_or_has_failed() -> None:
    rows = [
        Row(LOAD, OTHER, skipped="rspamd is not installed"),
        Row(LOAD, GATE, error="ended with 1"),
    ]
    lines = table(rows).splitlines()
    assert "| other | skipped: rspamd is not installed |" in lines[2]
    assert "| **smtpgate** | failed: ended with 1 |" in lines[3]
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "smtpgate, 4 KiB: ended with 1." in lines


def test_rows_of_a_load_stand_together_in_the_order_of_the_loads() -> None:
    rows = [
        Row(load, peer, (RUN,))
        for peer in (GATE, OTHER)
        for load in (LOAD, Load("1 MiB", "1m"))
    ]
    titles = [line.split(" | ")[0] for line in table(rows).splitlines()[2:6]]
    assert titles == ["| 4 KiB (16 x 10)"] * 2 + ["| 1 MiB (16 x 10)"] * 2


def test_the_growth_table_compares_each_size_with_the_smallest() -> None:
    dearer = replace(RUN, cpu_s=1.25)
    steps = [
        growth.Step("connections", 10, Row(LOAD, GATE, (RUN,))),
        growth.Step("connections", 1000, Row(LOAD, GATE, (dearer,)), "a fact"),
        growth.Step("journal records", 1, Row(LOAD, GATE, error="ended with 1")),
    ]
    head, _, *lines = growth.table(steps).splitlines()
    assert lines[0] == ("| connections | 10 | 20.0 | 40.0 | 2.000 | 0% | 1.00 | 128 (64) |  |")
    assert lines[1].endswith("| 2.500 | 0% | 1.25 | 128 (64) | a fact |")
    assert lines[2].startswith("| journal records | 1 | ended with 1 |")
    assert {line.count("|") for line in lines[:3]} == {head.count("|")}


def test_a_section_is_appended_with_commit_and_machine(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    file.write_text("# Measurements\n")
    record(section("a title", "| a table |\n", [GATE]), file)
    text = file.read_text()
    assert text.startswith("# Measurements\n\n## 20")
    assert ": a title\n\nCommit " in text
    assert text.endswith("| a table |\n")


@pytest.mark.parametrize("name", SIZES)
def test_a_message_has_its_size_and_reads_back(name: str) -> None:
    wire = message(SIZES[name])
    assert abs(len(wire) - SIZES[name]) < SIZES[name] / 16
    assert wire.endswith(b"\r\n.\r\n")
    assert wire.count(b"\n") == wire.count(b"\r\n")
    assert max(map(len, wire.split(b"\r\n"))) < 998
    assert wire[: 16 * 1024].count(b"@SERIAL@") == wire[: 16 * 1024].count(b"@SENDER@") == 1


def test_dots_are_doubled_on_the_wire_only() -> None:
    wire = b"Subject: x\r\n\r\n..dot\r\nword\r\n...\r\n.\r\n"
    assert unstuffed(wire) == b"Subject: x\r\n\r\n.dot\r\nword\r\n..\r\n"


def test_a_signature_is_timed_however_short_the_run_is() -> None:
    with TimedSignatures() as timed:
        pass
    assert 0 < timed.median_ms < 1000


def test_ratios_are_medians_of_the_rounds() -> None:
    ours = _runs(2.0, 4.0, 1.0)
    theirs = _runs(4.0, 8.0, 8.0)
    text = table([Row(LOAD, GATE, ours), Row(LOAD, OTHER, theirs)])
    assert text.splitlines()[3].split(" | ")[-3:-1] == ["2.00", "1.00"]


def test_a_message_s_signatures_are_those_of_its_own_run() -> None:
    assert RUN.signatures == 8
    assert replace(RUN, signature_ms=0.5).signatures == 4
