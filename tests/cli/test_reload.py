"""``smtpgate reload``: the answer of a running gate, in words."""

from collections.abc import AsyncGenerator, Iterator

import pytest

from smtpgate.control import RefusedError, ReloadAnswer, ReloadRequest
from tests.support.answering import AnsweringGate
from tests.support.desk import Desk


class PlayedGate(AnsweringGate):
    """A gate that answers as the test wants."""

    def __init__(self, desk: Desk) -> None:
        self.answer = ReloadAnswer()
        self.refusal = ""
        self.asked: list[ReloadRequest] = []
        super().__init__(desk, lambda routes: routes.add(ReloadRequest, self._reload))

    async def _reload(self, request: ReloadRequest) -> AsyncGenerator[object]:
        self.asked.append(request)
        if self.refusal:
            raise RefusedError(self.refusal)
        yield self.answer


@pytest.fixture
def gate(desk: Desk) -> Iterator[PlayedGate]:
    found = PlayedGate(desk)
    yield found
    found.close()


def test_changed_keys_and_those_that_need_a_restart_are_listed(
    desk: Desk, gate: PlayedGate
) -> None:
    assert desk.says("reload") == "the configuration is as it was\n"
    gate.answer = ReloadAnswer(("limits.max_wait_s", "upstream.two"), ("http.port",))
    assert desk.says("reload") == (
        "changed: limits.max_wait_s\nchanged: upstream.two\nneeds a restart: http.port\n"
    )
    assert "would change: upstream.two\n" in desk.says("reload", "--check")
    assert [one.is_check for one in gate.asked] == [False, False, True]


def test_what_could_not_be_used_is_a_failure(desk: Desk, gate: PlayedGate) -> None:
    gate.answer = ReloadAnswer(("limits.max_wait_s",), (), ("listener.tls: expired",))
    result = desk.give("reload")
    assert (result.exit_code, result.stdout) == (1, "changed: limits.max_wait_s\n")
    assert result.stderr == "listener.tls: expired\n"
    gate.answer = ReloadAnswer(problems=("a: 1", "b: 2"), is_refused=True)
    result = desk.give("reload")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "a: 1\nb: 2\n")
    gate.refusal = "not now"
    assert desk.refuses("reload") == "not now "


def test_a_configuration_with_an_error_is_not_sent_to_the_gate(
    desk: Desk, gate: PlayedGate
) -> None:
    desk.config.write_text(desk.config.read_text() + "\n[limit]\n")
    assert "limit: is not a known key" in desk.refuses("reload")
    assert gate.asked == []


def test_without_a_gate_its_socket_is_named(desk: Desk) -> None:
    path = desk.folder / "state" / "control.sock"
    assert desk.refuses("reload").startswith(f"no gate answers at {path}")
