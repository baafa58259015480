"""``smtpgate help``: the guides and references that come with the program."""

import os
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from typing import Annotated, Final

import typer

from smtpgate.cli.commands import COMMANDS

# The order is that of the list: guides as a reader needs them, then references.
GUIDES: Final = (
    "message",
    "operating",
    "doctor",
    "live",
    "directory",
    "policies",
    "limits",
    "reputation",
    "leaked-keys",
    "dkim",
    "journal",
    "relays",
    "upstreams",
    "oauth",
    "workloads",
    "api",
    "feedback",
    "notifications",
    "suppression",
    "outbox",
    "backup",
    "upgrade",
    "fleet",
)
REFERENCES: Final = (
    "configuration",
    "documents",
    "bounds",
    "replies",
    "reasons",
    "metrics",
    "log",
    "commands",
)
_TOPICS: Final = GUIDES + REFERENCES
_COMMENT: Final = re.compile(r"<!--.*?-->\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """A guide or a reference, as Markdown without its comments."""

    topic: str
    text: str

    @property
    def summary(self) -> str:
        """Its first paragraph, which is one sentence."""
        return self.text.split("\n\n", 2)[1].replace("\n", " ").removesuffix(".")


def page(topic: str) -> Page:
    """The page of a topic."""
    text = (files("smtpgate") / "guide" / f"{topic}.md").read_text("utf-8")
    return Page(topic, _COMMENT.sub("", text))


def topic_of(word: str) -> str:
    """The topic that a word names, or is the unique beginning of. Raises ValueError."""
    wanted = word.lower().removesuffix(".md")
    if wanted in _TOPICS:
        return wanted
    found = [topic for topic in _TOPICS if topic.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    said = "several topics begin with" if found else "there is no topic"
    raise ValueError(f"{said} `{word}'; {_advice(wanted, found)}")


def _advice(wanted: str, found: list[str]) -> str:
    if wanted in COMMANDS:
        return f"`smtpgate {wanted} --help' describes the command"
    nearest = found or get_close_matches(wanted, _TOPICS, n=3, cutoff=0.6)
    if not nearest:
        return "`smtpgate help' lists them"
    *others, last = nearest
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def _complete(incomplete: str) -> list[str]:
    return [topic for topic in _TOPICS if topic.startswith(incomplete)]


def show_help(
    topic: Annotated[
        str | None,
        typer.Argument(
            metavar="TOPIC",
            help="A topic of the list; a unique beginning is enough.",
            autocompletion=_complete,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show a guide or a reference; without a topic, list the topics.

    Prints Markdown when the output is not a terminal.
    """
    if topic is None:
        _list_topics()
        return
    try:
        chosen = page(topic_of(topic))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="TOPIC") from None
    if sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
        # Rich's Markdown takes 50 ms to import, and only this needs it.
        from smtpgate.cli.markdown import print_markdown  # noqa: PLC0415

        print_markdown(chosen.text)
    else:
        typer.echo(chosen.text, nl=False)


def _list_topics() -> None:
    width = max(map(len, _TOPICS))
    for heading, topics in (("Guides", GUIDES), ("References", REFERENCES)):
        typer.echo(f"{heading}:")
        for topic in topics:
            typer.echo(f"  {topic:<{width}}  {page(topic).summary}")
    typer.echo("\nTo read one, run `smtpgate help TOPIC'.")
