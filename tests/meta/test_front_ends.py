"""A front end has no rule: it reads arguments, asks one use case, and prints the answer.

A rule looks at what the gate has and then decides. So a front end does not decide by what it
was answered inside a session, raises no refusal of its own there, and uses only those functions
of the core that read arguments or word an answer.
"""

import ast
from collections.abc import Iterator
from typing import Final

from tests.support.source import Module, functions, modules, name_of, nodes

_FRONT_ENDS: Final = ("smtpgate/cli/", "smtpgate/http/")
_SESSIONS: Final = frozenset({"CallerSession", "JournalSession", "PreviewSession", "Session"})
# Each reads an argument, or words what is printed.
_FUNCTIONS_OF_THE_CORE: Final = frozenset(
    {
        "access_key_id", "account_id", "identity_arn", "identity_name", "is_account_id",
        "network", "network_of", "parse_authors",
        "configuration_set_name", "parse_forward_path", "parse_mailbox",
        "read_record", "read_simulation", "topic_name", "user_key", "user_name", "read_reason",
        "read_reasons",
        # Files with suppression lists.
        "list_header", "list_line", "read_list",
        "clock_time", "decided_identity", "numbered", "outcome_of", "series", "sparkline",
        "story_of", "summaries",
        # Documents without a gate: `policy lint` and `policy generate`.
        "check_document", "error_finding", "generate_policy",
    }
)  # fmt: skip


def _front_ends() -> Iterator[Module]:
    return (module for module in modules() if module.path.startswith(_FRONT_ENDS))


def test_a_front_end_uses_only_functions_of_the_core_that_read_or_word() -> None:
    others = [
        f"{module.path}:{node.lineno} {alias.name}"
        for module in _front_ends()
        for node in nodes(module.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("smtpgate.core")
        for alias in node.names
        if alias.name.islower() and alias.name not in _FUNCTIONS_OF_THE_CORE
    ]
    assert not others


def test_the_listed_functions_of_the_core_are_used() -> None:
    used = {
        alias.name
        for module in _front_ends()
        for node in nodes(module.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert used >= _FUNCTIONS_OF_THE_CORE


def test_functions_with_a_session_are_found() -> None:
    found = [
        function.name
        for module in _front_ends()
        for function in functions(module.tree)
        if _has_session(function)
    ]
    assert len(found) > 20


def test_what_a_session_answered_decides_nothing_in_a_front_end() -> None:
    decided = [
        f"{module.path}:{test.lineno} {ast.unparse(test)}"
        for module in _front_ends()
        for function in functions(module.tree)
        if _has_session(function)
        for test in _tests(function)
        if _answers(function) & {node.id for node in nodes(test) if isinstance(node, ast.Name)}
        or any(isinstance(node, ast.Await) for node in nodes(test))
    ]
    assert not decided


def test_a_front_end_refuses_nothing_in_a_session() -> None:
    """It may word an error of the use case, which is to raise in its handler."""
    refused = [
        f"{module.path}:{node.lineno} {ast.unparse(node)}"
        for module in _front_ends()
        for function in functions(module.tree)
        if _has_session(function)
        for node in set(nodes(function)) - _in_handlers(function)
        if isinstance(node, ast.Raise)
    ]
    assert not refused


def _has_session(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True if one of its arguments is a session of a use case."""
    return any(
        name_of(node) in _SESSIONS
        for argument in function.args.args
        if argument.annotation is not None
        for node in nodes(argument.annotation)
        if isinstance(node, ast.Name)
    )


def _answers(function: ast.AST) -> set[str]:
    """The names that it gives to what it awaited."""
    return {
        name.id
        for node in nodes(function)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
        if node.value is not None
        and any(isinstance(part, ast.Await) for part in nodes(node.value))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in nodes(target)
        if isinstance(name, ast.Name)
    }


def _tests(function: ast.AST) -> Iterator[ast.expr]:
    """The conditions in it."""
    for node in nodes(function):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs


def _in_handlers(function: ast.AST) -> set[ast.AST]:
    return {
        part
        for node in nodes(function)
        if isinstance(node, ast.ExceptHandler)
        for part in nodes(node)
    }
