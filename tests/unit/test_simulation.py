"""One JSON request in, one JSON decision out."""

import json
from typing import Any

import pytest

from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.whatif.simulation import (
    SimulationError,
    SimulationResult,
    Simulator,
    read_simulation,
)
from smtpgate.core.whatif.trial import TrialError, trial_of
from tests.support.cases import load_cases
from tests.support.events import AT
from tests.support.rows import rows
from tests.support.world import DELEGATE

STANDS_FOR = {
    "@arn": "arn:aws:ses:us-east-1:888888888888:identity/example.com",
    "@may": json.dumps(
        {
            "Statement": {
                "Sid": "MaySend",
                "Effect": "Allow",
                "Action": "ses:SendRawEmail",
                "Resource": "*",
            }
        }
    ),
    "@grant": json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Sid": "Grant",
                "Effect": "Allow",
                "Principal": {"AWS": DELEGATE},
                "Action": "ses:SendRawEmail",
                "Resource": "arn:aws:ses:us-east-1:888888888888:identity/example.com",
            },
        }
    ),
}


def by_note(case: dict[str, Any]) -> str:
    return str(case["note"])


def line_of(case: dict[str, Any]) -> str:
    line = str(case["line"])
    for name, text in STANDS_FOR.items():
        line = line.replace(name, text)
    return line


def answer_to(line: str | bytes) -> SimulationResult:
    try:
        return Simulator().decide(read_simulation(line))
    except SimulationError as error:
        return SimulationResult(error.id, "invalid", reasons=error.problems)


@rows("case", load_cases("simulate/10-requests.toml"), ids=by_note)
def test_a_request_is_answered_as_its_table_says(case: dict[str, Any]) -> None:
    answer = json.loads(str(answer_to(line_of(case))))
    reasons = answer.pop("reasons")
    answer["determining"] = [
        f"{cited['policy']} {cited['sid'] or 'null'} {cited['index']}"
        for cited in answer["determining"]
    ]
    assert answer == {"id": None, **case["answer"]}
    assert reasons
    if "reasons" in case:
        assert reasons == case["reasons"]


def test_the_keys_of_an_answer_never_change_their_order() -> None:
    line = line_of(load_cases("simulate/10-requests.toml")[0])
    answer = json.loads(str(answer_to(line)))
    assert list(answer) == ["id", "outcome", "determining", "reasons"]
    assert list(answer["determining"][0]) == ["policy", "sid", "index"]


def test_a_number_is_echoed_with_its_digits() -> None:
    line = '{"id": 1.50e1, "sender": {}, "identity_arn": "x"}'
    assert str(answer_to(line)).startswith('{"id": 1.50e1, "outcome": "invalid"')


def test_octets_that_are_no_utf8_are_answered() -> None:
    assert answer_to(b'{"id": "\xff"}').reasons == ("line 1 column 9: not UTF-8",)


def test_an_answer_is_one_line_of_ascii() -> None:
    answer = str(answer_to('{"id": "Grüße\\n\u2028", "sender": {"usér": 1}}'))
    assert answer.isascii()
    assert len(answer.splitlines()) == 1


def test_a_document_that_comes_again_gets_the_same_answer() -> None:
    simulator = Simulator()
    line = line_of(load_cases("simulate/10-requests.toml")[0])
    first, second = (simulator.decide(read_simulation(line)) for _ in range(2))
    assert first == second


def test_more_documents_than_are_remembered_change_no_answer() -> None:
    simulator = Simulator()
    case = load_cases("simulate/10-requests.toml")[0]
    for number in range(1100):
        line = line_of(case).replace("MaySend", f"MaySend{number}")
        cited = simulator.decide(read_simulation(line)).determining[0]
        assert cited.sid == f"MaySend{number}"


def test_a_trial_names_what_is_wrong_with_each_value() -> None:
    root = Principal.root(Account(DELEGATE, "", SendingLimits(-1, -1)))
    context = {"ses:fromaddress": ("a@example.com", "nobody")}
    with pytest.raises(TrialError) as refused:
        trial_of(root, "nonsense", context, now=AT)
    assert [problem.partition(": ")[0] for problem in refused.value.problems] == [
        "context.ses:fromaddress",
        "identity_arn",
    ]
