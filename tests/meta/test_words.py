"""The words of code, texts and documents: the field's own, each with one meaning.

One table says which words are not used, and what is written in their place. It is applied to
every module, configuration file and document, and to the names and comments of tests.
"""

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Final

from tests.support.source import ROOT, modules

# What is not written, and what is written instead. Names are read as words: `_is_at_home` is
# "is at home", `OpenDoor` is "open door".
_WORDS: Final = {
    r"told": "logged, reported, shown, notified",
    r"hears?|heard": "receives, gets; the reply",
    r"lends?|lent": "allows a debt",
    r"at home": "in an allowed network",
    r"in hand": "in flight, open",
    r"deeds?": "operation",
    r"offices?": "administration session",
    r"gatehouses?": "preview",
    r"pens?": "statements, writer",
    r"doors?": "front end, interface; the module that imports a package",
    r"upkeep|settling": "verification, retry",
    r"begin end": "request end",
    r"held": "kept, stored, contained, delayed",
    r"whence": "from where",
    r"whichever": "any",
    r"in vain|for want of": "without result; because there is no",
    r"at hand": "in memory, in the cache",
    r"newcomers?": "the noun: a new account, a new host",
    r"put off": "deferred, delayed",
    r"whoever": "anyone who, the user who",
    r"whom": "a relative clause with its noun: the sender that no Allow names",
    r"somebody|anybody": "the noun: a user, an operator, a client; anyone",
    r"anew": "again, from the beginning",
    r"(?<=one )who": "a noun and `that'",
}
# A name is not used at all, in code or tests, whatever it would mean there.
_NAMES: Final = {
    r"\w*Place": "UserRef, QuotaKey, SourceLocation: the thing itself",
    r"Raise": "TemporaryLimits",
    r"Standing": "LimitStatus",
    r"draft_\w+": "plan_*, desired",
}
_MODULES: Final = {
    "archive": "journal_session",
    "attached": "policy_commands",
    "content": "desired",
    "declared": "documents",
    "door": "session_parts",
    "drafts": "editor",
    "gatehouse": "preview",
    "office": "session",
    "outside": "clients",
    "pen": "statements",
    "present": "current",
    "settling": "retry",
    "upkeep": "verification",
}
# A sentence that begins with a relative pronoun has no subject. Questions may.
_RELATIVE: Final = re.compile(
    r"(?:^# |^|[a-z)`][.:;] )(Who|Whose|Whom|What|Whatever|Whether)\s(?![^.\n]*\?)",
    re.MULTILINE,
)
_DOCSTRING: Final = re.compile(
    r"\"\"\"(Who|Whose|Whom|What|Whatever|Whether|Where|How|Why|Which)\b[^\n]*"
)

_DOCUMENTS: Final = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    ".ci/run",
    ".github/**/*.yml",
    "config/*.toml",
    "config/*.rules",
    "config/directory/**/*.toml",
    "systemd/*",
    "smtpgate/guide/*.md",
    "smtpgate/demo/world/**/*.toml",
)
_PATTERN: Final = re.compile(
    rf"(?<![\w-])(?:{'|'.join(f'(?:{words})' for words in _WORDS)})(?![\w-])"
)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@cache
def _in_words(text: str) -> str:
    """The text with each name as the words that it is made of, in small letters.

    Letter case that a pattern ignores makes it ten times as slow.
    """
    return re.sub(r"[ \t]+", " ", _HUMP.sub(" ", text).replace("_", " ")).lower()


def _better(word: str, table: Mapping[str, str] = _WORDS) -> str:
    for words, better in table.items():
        if re.fullmatch(words, re.sub(r"\s+", " ", word)):
            return better
    return ""


def _findings(path: str, text: str) -> Iterator[str]:
    in_words = _in_words(text)
    for match in _PATTERN.finditer(in_words):
        line = in_words.count("\n", 0, match.start()) + 1
        yield f"{path}:{line}: {match[0]!r}; better: {_better(match[0])}"


def _relatives(path: str, text: str) -> Iterator[str]:
    pattern = _DOCSTRING if path.endswith(".py") else _RELATIVE
    for match in pattern.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield f"{path}:{line}: begins with {match[1]!r}; name the subject"


def test_code_uses_the_words_of_the_field() -> None:
    texts = [(module.path, module.text) for module in modules()]
    _must_use_the_words(texts)


def test_documents_use_the_words_of_the_field() -> None:
    files = [file for pattern in _DOCUMENTS for file in sorted(ROOT.glob(pattern))]
    _must_use_the_words([(_path(file), _of_now(file)) for file in files])


def _of_now(document: Path) -> str:
    """The text of a document; of the change log without names, which may be former ones."""
    text = document.read_text("utf-8")
    if document.name != "CHANGELOG.md":
        return text
    return re.sub(r"`[^`]*`", lambda name: "\n" * name[0].count("\n"), text)


def _must_use_the_words(texts: Iterable[tuple[str, str]]) -> None:
    found = [f for pair in texts for f in (*_findings(*pair), *_relatives(*pair))]
    assert not found, "\n".join(found)


def test_comments_of_tests_use_the_words_of_the_field() -> None:
    # To look at all of a module is faster than to find its comments.
    suspects = [(path, text) for path, text in _tests() if _has_a_finding(path, text)]
    _must_use_the_words([(path, _prose(text)) for path, text in suspects])


def _has_a_finding(path: str, text: str) -> bool:
    return next(chain(_findings(path, text), _relatives(path, text)), None) is not None


def test_names_in_tests_are_made_of_the_words_of_the_field() -> None:
    found = [
        finding
        for path, text in _tests()
        if _PATTERN.search(_in_words(text))
        for name, line in _names(text)
        for finding in _findings(f"{path}:{line}", name)
    ]
    assert not found, "\n".join(found)


def test_a_name_with_a_better_one_is_gone() -> None:
    pattern = re.compile(rf"\b(?:{'|'.join(_NAMES)})\b")
    texts = [(module.path, module.text) for module in modules()]
    found = [
        f"{path}:{line}: {token}; better: {_better(token, _NAMES)}"
        for path, text in (*texts, *_tests())
        if pattern.search(text)
        for token, line in _names(text)
        if pattern.fullmatch(token)
    ]
    assert not found, "\n".join(found)


@cache
def _tests() -> tuple[tuple[str, str], ...]:
    files = sorted((ROOT / "tests").rglob("*.py"))
    return tuple(
        (_path(file), file.read_text("utf-8")) for file in files if file != Path(__file__)
    )


def _path(file: Path) -> str:
    return str(file.relative_to(ROOT))


def _names(text: str) -> Iterator[tuple[str, int]]:
    """The names in a module, without those of Python's syntax tree."""
    for token in tokenize.generate_tokens(StringIO(text).readline):
        before = token.line[: token.start[1]]
        if token.type == tokenize.NAME and not before.endswith("ast."):
            yield token.string, token.start[0]


def _prose(text: str) -> str:
    """The comments and doc strings of a module, each on its lines."""
    lines = [""] * text.count("\n")
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.string.startswith('"""'):
            for number, line in enumerate(token.string.split("\n"), token.start[0] - 1):
                lines[number] += line
    return "\n".join(lines)


def test_no_module_has_a_name_with_a_better_one() -> None:
    found = [
        f"{module.path}; better: {_MODULES[part]}"
        for module in modules()
        for part in Path(module.path).with_suffix("").parts
        if part in _MODULES
    ]
    assert not found, "\n".join(found)


def test_a_class_has_a_name_that_no_other_class_has() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(module.path)
    found = [
        f"{name}: {', '.join(sorted(paths))}"
        for name, paths in sorted(places.items())
        if len(paths) > 1
    ]
    assert not found, "\n".join(found)
