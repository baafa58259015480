"""The catalogue of replies against the RFCs, and against its use in the source."""

import ast
import re
import string
from collections.abc import Iterator
from typing import Final

from smtpgate.core.reason import REASONS
from smtpgate.core.reply import CATALOGUE, reply_of
from tests.support.rows import rows
from tests.support.source import calls, modules, name_of, nodes

# RFC 5321 §4.2.3, RFC 4954 §6, RFC 3207 §4; RFC 1869 §6 for 555.
_CODES: Final = frozenset(
    {214, 220, 221, 235, 250, 252, 334, 354, 421, 451, 452, 454, 500, 501, 502, 503, 504, 530,
     535, 538, 550, 552, 553, 554, 555}
)  # fmt: skip
_MAX_LINE_OCTETS: Final = 512  # RFC 5321 §4.5.3.1.5

_by_name = rows("name", sorted(CATALOGUE))


def placeholders(name: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(CATALOGUE[name].text) if field}


@_by_name
def test_its_code_is_one_of_smtps_and_its_enhanced_code_of_the_same_class(name: str) -> None:
    reply = CATALOGUE[name]
    assert reply.code in _CODES
    if reply.enhanced:  # RFC 2034 §4
        assert re.fullmatch(rf"{reply.code // 100}\.[0-7]\.[0-9]{{1,2}}", reply.enhanced)
    else:  # RFC 2034 §3: none at connect and in intermediate replies
        assert name == "greeting" or 300 <= reply.code < 400


@_by_name
def test_its_text_fits_a_line_with_ordinary_facts_and_can_be_sent(name: str) -> None:
    filled = reply_of(name, **dict.fromkeys(placeholders(name), "x" * 64))
    assert filled.text.isascii()
    assert filled.text.isprintable()
    assert len(filled.wire()) <= _MAX_LINE_OCTETS
    assert filled.wire().count(b"\r\n") == 1


@_by_name
def test_its_text_begins_as_texts_to_peers_do(name: str) -> None:
    assert re.match(r"[A-Z]|\{[a-z_]+\}|<\{", CATALOGUE[name].text)


@_by_name
def test_the_gate_gives_it(name: str) -> None:
    assert any(f'"{name}"' in module.text for module in modules() if _uses_replies(module.path))


@rows("reason", sorted(REASONS))
def test_the_gate_refuses_for_that_reason(reason: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", reason)
    assert any(
        f'"{reason}"' in module.text
        for module in modules()
        if module.path != "smtpgate/core/reason.py"
    )


def _uses_replies(path: str) -> bool:
    return path != "smtpgate/core/reply.py"


def _is_refusal(call: ast.Call) -> bool:
    """True if it is ``reject(…)`` or ``Reject.of(…)``."""
    return name_of(call.func) in {"reject", "Reject.of", "Denial.of"}


def _given() -> Iterator[tuple[str, str, ast.Call]]:
    """The replies that are given by name or by reason, each with its place and call."""
    for module in modules():
        for function, call in calls(module.tree):
            if not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            name = str(call.args[0].value)
            if _is_refusal(call):
                name = REASONS[name].reply if name in REASONS else name
            elif function != "reply_of":
                continue
            yield f"{module.path}:{call.lineno}", name, call


def test_every_reply_is_given_with_the_facts_that_its_text_wants() -> None:
    wrong = [
        f"{place} {name}"
        for place, name, call in _given()
        if name not in CATALOGUE
        or {keyword.arg for keyword in call.keywords} != placeholders(name)
    ]
    assert not wrong


def test_a_reply_with_facts_is_never_taken_unfilled() -> None:
    unfilled = [
        f"{module.path}:{node.lineno} {node.slice.value!r}"
        for module in modules()
        for node in nodes(module.tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "CATALOGUE"
        and isinstance(node.slice, ast.Constant)
        if str(node.slice.value) in CATALOGUE and placeholders(str(node.slice.value))
    ]
    assert not unfilled


def test_the_words_of_a_caught_error_are_the_detail_of_inner_reasons_alone() -> None:
    shown = []
    for module in modules():
        for _, call in calls(module.tree):
            if _is_refusal(call) and len(call.args) > 1:
                reason, detail = call.args[:2]
                is_sent = (
                    isinstance(reason, ast.Constant) and not REASONS[str(reason.value)].is_inner
                )
                if "error" in ast.unparse(detail) and is_sent:
                    shown.append(f"{module.path}:{call.lineno}")
    assert shown == []
