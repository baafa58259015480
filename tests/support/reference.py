"""The tables of the documents, made from the catalogues that they document.

``python -m tests.support.reference`` writes them into README.md and ``smtpgate/guide/``;
``tests/meta`` compares them.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import typer
from typer.core import TyperCommand, TyperGroup

from smtpgate.api.operations import HANDLERS
from smtpgate.cli import app
from smtpgate.cli.commands import DeferredCommand
from smtpgate.cli.help import GUIDES, REFERENCES, page
from smtpgate.config.reloading import is_by_reload
from smtpgate.core.events import HANDSHAKE_PROBLEMS
from smtpgate.core.limits.budget import BUDGETS, Budget
from smtpgate.core.reason import LOGIN_REASONS, REASONS
from smtpgate.core.reply import CATALOGUE
from smtpgate.core.routing.failed_try import CAUSES
from smtpgate.doctor.finding import KINDS
from smtpgate.gate.doctor import CHECKS
from smtpgate.metrics.catalogue import CATALOGUE as METRICS
from tests.support.api_model import SERVICES

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = ROOT / "README.md"
GUIDE: Final = ROOT / "smtpgate" / "guide"
SAMPLE: Final = ROOT / "config" / "smtpgate.toml"
_EVERYWHERE: Final = frozenset({"config", "json", "yes", "help"})
# A section that is off, and a key that is not set, begin with #.
_HEADER: Final = re.compile(r"#?\[\[?([a-z]+)(\.[a-z]+)?(\.[a-z]+)?\]\]?")
_QUOTED: Final = re.compile(r"(?<![^\s(])`([a-z][^`']*)'(?!\w)")
_KEY: Final = re.compile(r"#?([a-z0-9_]+) = (.+)")


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(columns)
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text of a terminal as Markdown: `a command' there has a backtick at its end here."""
    return _QUOTED.sub(r"`\1`", text.replace("|", "\\|"))


def commented_keys() -> list[tuple[str, str, str]]:
    """Each key of the sample configuration, its value there, and the comment above it."""
    found: list[tuple[str, str, str]] = []
    section, comment = "", list[str]()
    for line in SAMPLE.read_text("utf-8").splitlines():
        header, key = _HEADER.fullmatch(line), _KEY.fullmatch(line)
        if header is not None:
            section = header[1] + (".NAME" if header[2] else "") + (header[3] or "")
            comment = []
        elif key is not None:
            place = f"{section}.{key[1]}"
            if comment and place not in {known for known, _, _ in found}:
                found.append((place, key[2], " ".join(comment)))
            comment = []
        elif line.startswith("#"):
            comment.append(line.lstrip("# "))
        else:
            comment = []
    return found


@cache
def commands() -> dict[str, TyperCommand]:
    """Every command, by its words."""

    def walk(words: str, command: object) -> Iterator[tuple[str, TyperCommand]]:
        if isinstance(command, DeferredCommand):
            yield from walk(words, command.loaded)
        elif isinstance(command, TyperGroup):
            for name, inner in command.commands.items():
                yield from walk(f"{words} {name}", inner)
        elif isinstance(command, TyperCommand):
            yield words, command

    return dict(walk("smtpgate", typer.main.get_command(app)))


def usage(words: str, command: TyperCommand) -> str:
    """The command with its required arguments; three dots stand for more options."""
    typed, has_more = [words], False
    for parameter in command.params:
        metavar = parameter.metavar or ""
        if parameter.param_type_name == "argument":
            typed.append(metavar if parameter.required else f"[{metavar}]")
        elif parameter.required:
            typed.append(f"{parameter.opts[0]} {metavar}")
        else:
            has_more |= parameter.name not in _EVERYWHERE
    return " ".join([*typed, "…"] if has_more else typed)


def summary(command: TyperCommand) -> str:
    """The first sentence of its help."""
    first = " ".join((command.help or "").partition("\n\n")[0].split())
    return first.removesuffix(".")


def _links(topics: Iterable[str]) -> str:
    return "\n".join(
        f"- [{topic}](smtpgate/guide/{topic}.md): {page(topic).summary}." for topic in topics
    )


def _answer_of(budget: Budget) -> str:
    if budget.key.startswith("api."):
        return "`Throttling`"
    return _reply_code(budget.reply)


def _reply_code(name: str) -> str:
    reply = CATALOGUE.get(name)
    return "closed" if reply is None else f"{reply.code} {reply.enhanced}"


_OF_SERVICES: Final = {
    "ses": "SES, version 1",
    "sesv2": "SES, version 2",
    "sts": "STS",
    "iam": "IAM",
    "sns": "SNS",
}


def _operations() -> Iterator[tuple[str, str, str, str]]:
    """The operations of the API's model; those without a function are refused."""
    known = tomllib.loads(SERVICES.read_text("utf-8"))
    notes: dict[str, str] = known.pop("notes")
    for service, names in known.items():
        for name in sorted(names):
            answer = "served" if name in HANDLERS[service] else "refused"
            note = notes.pop(f"{service}.{name}", "")
            yield _OF_SERVICES[service], f"`{name}`", answer, note
    assert not notes, f"notes of no operation: {notes}"


def _changed_by(key: str) -> str:
    """A reload or a restart: what gives a running gate another value of the key."""
    section, _, name = key.replace(".NAME", "").partition(".")
    return "reload" if is_by_reload(section, name.partition(".")[0]) else "restart"


@cache
def tables() -> dict[str, str]:
    """The tables, by the name of the marks that they stand between."""
    replies = [
        (str(reply.code), reply.enhanced, f"`{reply.text}`")
        for reply in sorted(CATALOGUE.values(), key=lambda reply: (reply.code, reply.enhanced))
    ]
    metrics: list[tuple[str, ...]] = [
        (f"`{row.name}`", row.kind, ", ".join(row.labels), row.meaning)
        for row in METRICS.values()
    ]
    config = [
        (f"`{key}`", f"`{value}`", _changed_by(key), what)
        for key, value, what in commented_keys()
    ]
    budgets = [
        (f"`{name}`", one.phase, f"`{one.key}`", _answer_of(one), one.meaning)
        for name, one in BUDGETS.items()
    ]
    return {
        "budgets": _table(("budget", "counts", "key", "reply", "what it bounds"), budgets),
        "config": _table(("key", "in the sample", "changed by", "what"), config),
        "operations": _table(("service", "operation", "answer", "note"), _operations()),
        "replies": _table(("code", "enhanced", "text"), replies),
        "reasons": _table(
            ("reason", "meaning"),
            ((f"`{reason}`", row.meaning) for reason, row in REASONS.items()),
        ),
        "logins": _table(
            ("reason", "meaning"),
            ((f"`{reason}`", row.at_login) for reason, row in LOGIN_REASONS.items()),
        ),
        "causes": _table(
            ("cause", "meaning"), ((f"`{cause}`", what) for cause, what in CAUSES.items())
        ),
        "handshakes": _table(
            ("reason", "meaning"),
            ((f"`{reason}`", what) for reason, what in HANDSHAKE_PROBLEMS.items()),
        ),
        "doctor-checks": _table(
            ("check", "what it looks at"),
            ((f"`{check.name}`", check.looks_at) for check in CHECKS),
        ),
        "doctor-findings": _table(
            ("finding", "level", "why it matters", "what to do"),
            ((f"`{kind}`", row.level, row.why, row.cure) for kind, row in KINDS.items()),
        ),
        "guides": _links(GUIDES),
        "references": _links(REFERENCES),
        "metrics": _table(("metric", "kind", "labels", "meaning"), metrics),
        "commands": _table(
            ("command", "what"),
            ((f"`{usage(*one)}`", summary(one[1])) for one in commands().items()),
        ),
    }


def documents() -> list[Path]:
    """The README, the guides and the references."""
    return [README, *sorted(GUIDE.glob("*.md"))]


def guide(topic: str) -> str:
    """The text of a guide or reference, as it stands in its file."""
    return (GUIDE / f"{topic}.md").read_text("utf-8")


def marked(name: str) -> str:
    """The text between the marks of that name, in the document that has them."""
    (text,) = (
        text
        for text in (path.read_text("utf-8") for path in documents())
        if f"<!-- {name} -->" in text
    )
    return text.partition(f"<!-- {name} -->")[2].partition(f"<!-- /{name} -->")[0].strip()


def _write() -> None:
    for path in documents():
        text = path.read_text("utf-8")
        for name, table in tables().items():
            head, _, rest = text.partition(f"<!-- {name} -->")
            _, mark, tail = rest.partition(f"<!-- /{name} -->")
            if mark:
                text = f"{head}<!-- {name} -->\n{table}\n{mark}{tail}"
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    _write()
