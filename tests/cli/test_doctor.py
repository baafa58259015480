"""``smtpgate doctor`` at the terminal: its options, its output, its exit status."""

import json
from collections import Counter

import pytest

from smtpgate.doctor.finding import KINDS
from smtpgate.gate.doctor import CHECK_NAMES
from tests.support.desk import Desk
from tests.support.directory import MASTER_KEYS


def test_findings_say_what_why_and_what_to_do(desk: Desk) -> None:
    done = desk.give("doctor", "--only", "upstreams", "--only", "clock")
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "error: upstream.default: cannot connect: connection refused (upstream-unreachable)",
        f"  why: {KINDS['upstream-unreachable'].why}",
        f"  do:  {KINDS['upstream-unreachable'].cure}",
        "note: clock: there is no server to compare the clock with (clock-alone)",
        f"  why: {KINDS['clock-alone'].why}",
        f"  do:  {KINDS['clock-alone'].cure}",
        "2 checks: 1 error, 0 warnings, 1 note",
    ]


def test_findings_of_one_kind_say_once_what_to_do(desk: Desk) -> None:
    desk.configure('hostname = "gate.example.com"', 'hostnam = "gate.example.com"\nregion = 1')
    *problems, why, cure, _ = desk.give("doctor").stdout.splitlines()
    assert len(problems) == 2
    assert all(line.endswith(" (config-invalid)") for line in problems)
    row = KINDS["config-invalid"]
    assert (why, cure) == (f"  why: {row.why}", f"  do:  {row.cure}")


def test_without_an_error_the_exit_status_is_0(desk: Desk) -> None:
    assert desk.says("doctor", "--only", "directory").splitlines() == [
        "1 check: 0 errors, 0 warnings, 0 notes"
    ]


def test_programs_get_json_without_secrets(desk: Desk) -> None:
    done = desk.give("doctor", "--json")
    answer = json.loads(done.stdout)
    assert [one["check"] for one in answer["checks"]] == list(CHECK_NAMES)
    assert {one["kind"] for one in answer["findings"]} <= set(KINDS)
    levels = [one["level"] for one in answer["findings"]]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert Counter(levels)["error"]
    assert MASTER_KEYS.split()[1] not in done.output


def test_a_configuration_that_cannot_be_used_is_the_only_finding(desk: Desk) -> None:
    desk.configure('hostname = "gate.example.com"', 'hostnam = "gate.example.com"\nregion = 1')
    done = desk.give("doctor", "--json")
    assert done.exit_code == 1
    findings = json.loads(done.stdout)["findings"]
    assert [one["kind"] for one in findings] == ["config-invalid", "config-invalid"]
    assert "hostnam" in findings[0]["problem"] + findings[1]["problem"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--only", "upstream"), "there is no check `upstream'"),
        (("--address", "mail.example.com"), "does not appear to be an IPv4 or IPv6 address"),
        (("--send-test", "nobody"), "`nobody' is no address: Missing final '@domain'"),
    ],
)
def test_options_that_mean_nothing_are_misuse(
    desk: Desk, words: tuple[str, ...], says: str
) -> None:
    assert says in desk.refuses("doctor", *words, status=2)
