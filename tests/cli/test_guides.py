"""``smtpgate help``: the list of topics, and a page on a terminal and in a pipe."""

import re
from typing import Final

import pytest

from smtpgate.cli.help import GUIDES, REFERENCES, page
from tests.support.desk import Desk
from tests.support.guides import blocks
from tests.support.reference import commented_keys, guide
from tests.support.rows import rows

_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*m")


def test_without_a_topic_each_topic_is_listed_with_its_sentence(desk: Desk) -> None:
    printed = desk.says("help")
    for topic in (*GUIDES, *REFERENCES):
        assert f"\n  {topic:<13}  {page(topic).summary}\n" in printed


def test_a_pipe_gets_the_page_as_markdown_without_its_comments(desk: Desk) -> None:
    printed = desk.says("help", "reasons")
    assert printed.startswith("# Reason codes\n")
    assert "| `implicit-deny` |" in printed
    assert "<!--" in guide("reasons")
    assert "<!--" not in printed


def test_a_terminal_gets_the_page_rendered(desk: Desk) -> None:
    printed = desk.says("help", "limits", environment={"FORCE_COLOR": "1", "COLUMNS": "80"})
    assert "Sending limits" in printed
    assert "# Sending limits" not in printed
    assert "](" not in printed


@pytest.mark.slow
@rows("topic", [*GUIDES, *REFERENCES])
@rows("columns", ["80", "200"])
def test_every_page_can_be_rendered(desk: Desk, topic: str, columns: str) -> None:
    printed = desk.says("help", topic, environment={"FORCE_COLOR": "1", "COLUMNS": columns})
    lines = [_ESCAPE.sub("", line) for line in printed.splitlines()]
    assert all(len(line) <= int(columns) for line in lines if not line.startswith("    "))
    for block in blocks(guide(topic)):
        assert {f"    {line}".rstrip() for line in block.text.splitlines()} <= set(lines)


def test_a_table_that_is_too_wide_becomes_a_list_and_cuts_no_word(desk: Desk) -> None:
    printed = desk.says("help", "config", environment={"FORCE_COLOR": "1", "COLUMNS": "80"})
    text = _ESCAPE.sub("", printed)
    assert "…" not in text
    for key, _, _ in commented_keys():
        assert key in text


@rows("word", ["limits", "lim", "LIMITS", "limits.md"])
def test_a_unique_beginning_of_a_topic_will_do(desk: Desk, word: str) -> None:
    assert desk.says("help", word).startswith("# Sending limits\n")


@rows(
    "word, said",
    [
        ("limtis", "there is no topic `limtis'; did you mean limits or metrics?"),
        ("re", "topics begin with `re'; did you mean reputation, relays, replies or reasons?"),
        ("serve", "there is no topic `serve'; `smtpgate serve --help' describes the command"),
        ("nope", "there is no topic `nope'; `smtpgate help' lists them"),
        ("zzzz", "there is no topic `zzzz'; `smtpgate help' lists them"),
    ],
)
def test_a_topic_that_is_unknown_is_misuse_and_names_the_nearest(
    desk: Desk, word: str, said: str
) -> None:
    assert said in desk.refuses("help", word, status=2)
