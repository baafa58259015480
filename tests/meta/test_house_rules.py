"""The rules of the house that no linter knows; each finding names its place."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from typing import Final

from tests.support.source import ROOT, Module, calls, functions, modules, name_of, nodes

_MAX_MODULE_LINES: Final = 600
_MAX_FUNCTION_LINES: Final = 50
_SAY_NOTHING: Final = frozenset(
    {"utils", "util", "helpers", "common", "base", "manager", "misc"}
)
_CLOCKS_AND_DICE: Final = frozenset(
    {
        "now", "utcnow", "today", "time", "time_ns", "monotonic", "perf_counter", "random",
        "randint", "randbytes", "choice", "shuffle", "urandom", "uuid1", "uuid4", "token_hex",
        "token_bytes", "token_urlsafe", "getrandbits",
    }
)  # fmt: skip
_INPUT_AND_OUTPUT: Final = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
_REGEX_MAKERS: Final = frozenset(
    f"re.{name}"
    for name in ("compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall")
)
# Made when the module is imported, from the literals in it.
_REGEX_FROM_LITERALS: Final = frozenset(
    {
        "smtpgate/core/api/model.py:_pattern",  # AWS's own, in a file that is shipped
        "smtpgate/config/values.py:_spelled",
    }
)
# Values that are filled in while one thing is read or carried, and then handed over.
_MUTABLE: Final = frozenset({"SubmissionDone"})

_CITATION: Final = re.compile(r"RFC [1-9][0-9]{2,4}(?: §[A-Z0-9]+(?:\.[A-Z0-9]+)*)?(?![0-9])")
_ANY_RFC: Final = re.compile(r"(?i)\brfcs?[-_ ]?(?=[0-9])[^\n]{0,40}")
_ADDRESS: Final = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[a-z]{2,})\b")
# RFC 2606 §2, §3, the announcement's own domain, and Amazon SES's mailbox simulator.
_RESERVED: Final = re.compile(
    r"(?:.*\.)?(?:(?:ses-)?example\.(?:com|net|org)|[\w-]+\.(?:example|test|invalid))|"
    r"(?:.*\.)?example|simulator\.amazonses\.com"
)


def _where(module: Module, node: ast.expr | ast.stmt) -> str:
    return f"{module.path}:{node.lineno}"


def test_no_module_is_longer_than_600_lines() -> None:
    long = {
        module.path: lines
        for module in modules()
        if (lines := len(module.text.splitlines())) > _MAX_MODULE_LINES
    }
    assert not long


def test_no_function_is_longer_than_50_lines() -> None:
    long = [
        f"{_where(module, function)} {function.name}"
        for module in modules()
        for function in functions(module.tree)
        if (function.end_lineno or 0) - function.lineno >= _MAX_FUNCTION_LINES
    ]
    assert not long


def test_only_the_faces_of_packages_list_what_they_offer() -> None:
    lists = {
        module.path
        for module in modules()
        if any(
            isinstance(node, ast.Assign) and name_of(node.targets[0]) == "__all__"
            for node in module.tree.body
        )
    }
    faces = {
        module.path
        for module in modules()
        if module.path.endswith("/__init__.py")
        and any(not _is_docstring(node) for node in module.tree.body)
    }
    assert lists - faces == set()
    assert faces - lists <= {"smtpgate/__init__.py"}


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = [
        module.path
        for module in modules()
        if _SAY_NOTHING & set(module.path.removesuffix(".py").split("/"))
    ]
    assert not named


def test_nothing_is_left_to_be_done() -> None:
    marks = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    left = [
        f"{module.path}: {found[0]}"
        for module in modules()
        if (found := marks.search(module.text)) is not None
    ]
    assert not left


def test_the_core_asks_for_no_time_rolls_no_dice_and_opens_nothing() -> None:
    asked = [
        f"{_where(module, call)} {name}()"
        for module in modules()
        if module.is_core
        for name, call in calls(module.tree)
        if name in _INPUT_AND_OUTPUT
        or ("." in name and name.rpartition(".")[2] in _CLOCKS_AND_DICE)
    ]
    assert not asked


def test_the_core_needs_nothing_installed_but_msgspec() -> None:
    core = [
        module.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for module in modules()
        if module.is_core
    ]
    code = (
        "import sys; sys.path.insert(0, '.'); before = set(sys.modules);"
        f"import {', '.join(core)};"
        "added = set(sys.modules) - before;"
        "files = {one: getattr(sys.modules[one], '__file__', None) or '' for one in added};"
        "installed = {one for one, file in files.items() if 'site-packages' in file};"
        "print(*{one.partition('.')[0] for one in installed | (added & {'asyncio'})})"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # msgspec takes typing_extensions where it is there.
    assert set(run.stdout.split()) - {"typing_extensions"} == {"msgspec"}


def test_values_of_the_core_are_frozen_and_slotted() -> None:
    loose = [
        f"{_where(module, node)} {node.name}"
        for module in modules()
        if module.is_core
        for node in nodes(module.tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        for settings in _dataclass_settings(node)
        if not settings >= ({"slots"} if node.name in _MUTABLE else {"frozen", "slots"})
    ]
    assert not loose


def test_structs_are_frozen_and_the_garbage_collector_does_not_look_at_them() -> None:
    """Outside the core a module may fill in a struct of its own, such as a line of the log."""
    loose = [
        f"{_where(module, node)} {node.name}"
        for module in modules()
        for node in nodes(module.tree)
        if isinstance(node, ast.ClassDef)
        and {name_of(base) for base in node.bases} & {"Struct", "Written"}
        for settings in [{ast.unparse(one) for one in node.keywords}]
        if "gc=False" not in settings
        or ("frozen=True" not in settings and not _may_change(module, node.name))
    ]
    assert not loose


def _may_change(module: Module, name: str) -> bool:
    return name in _MUTABLE if module.is_core else name.startswith("_")


def _dataclass_settings(node: ast.ClassDef) -> list[set[str | None]]:
    found: list[set[str | None]] = []
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if name_of(call.func if call else decorator) == "dataclass":
            found.append({keyword.arg for keyword in call.keywords} if call else set())
    return found


def test_no_regular_expression_is_made_from_what_a_user_wrote() -> None:
    made = [
        f"{_where(module, call)} {name}()"
        for module in modules()
        for function in functions(module.tree)
        if f"{module.path}:{function.name}" not in _REGEX_FROM_LITERALS
        for name, call in calls(function)
        if name in _REGEX_MAKERS and not isinstance(call.args[0], ast.Constant)
    ]
    assert not made


def test_every_citation_can_be_looked_up() -> None:
    """``RFC 5321 §4.5.3.1.1``, and no other form; shown with ``pytest -s``: clause → file."""
    index: dict[str, set[str]] = defaultdict(set)
    unclear = []
    for module in modules():
        text = module.text.replace("rfc822", "")  # a media type, and a type of addresses
        for found in _ANY_RFC.finditer(text):
            cited = _CITATION.match(text, found.start())
            if cited is None or re.match(
                r",? (?:sect|sec\.|clause|para)", found[0][len(cited[0]) :]
            ):
                unclear.append(f"{module.path}: {found[0]}")
            else:
                index[cited[0]].add(module.path)
    for clause, paths in sorted(index.items()):
        print(clause, "→", ", ".join(sorted(paths)))  # noqa: T201 - the index is for people
    assert not unclear
    assert len(index) > 30


def test_no_address_is_somebodys() -> None:
    places = [ROOT / "smtpgate", ROOT / "config", ROOT / "systemd", ROOT / "README.md"]
    files = [
        path for place in places for path in ([place] if place.is_file() else place.rglob("*"))
    ]
    foreign = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in files
        if path.suffix in {".py", ".md", ".toml", ".json", ".rules", ".service"}
        for found in _ADDRESS.finditer(path.read_text("utf-8"))
        if not _RESERVED.fullmatch(found[1])
    ]
    assert not foreign


def test_every_package_is_imported_in_one_place() -> None:
    """The packages in pyproject's contracts are those that the product imports and declares."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    protected = {
        name for contract in contracts for name in contract.get("protected_modules", ())
    }
    imported = {
        name.partition(".")[0]
        for module in modules()
        for node in nodes(module.tree)
        for name in _imported(node)
    }
    foreign = imported - sys.stdlib_module_names - {"smtpgate"}
    assert foreign == protected


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return []
