"""``--help`` on a terminal of 80 columns."""

import subprocess
import sys
import textwrap
from functools import cache

import pytest
from typer.core import TyperArgument, TyperOption
from typer.testing import CliRunner

from smtpgate.cli import app
from smtpgate.cli.commands import COMMANDS as ENTRIES
from smtpgate.cli.commands import DeferredCommand
from smtpgate.cli.terminal import DEFAULT_CONFIG
from tests.support.reference import commands
from tests.support.rows import rows

COMMANDS = commands()


@cache
def shown(words: str) -> str:
    done = CliRunner().invoke(app, [*words.split()[1:], "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
@rows("words", COMMANDS)
def test_help_fills_the_lines_and_cuts_no_word(words: str) -> None:
    command, reported = COMMANDS[words], shown(words)
    lines = {line.strip() for line in reported.splitlines()}
    for paragraph in (command.help or "").split("\n\n"):
        assert lines.issuperset(textwrap.wrap(paragraph, 78, break_on_hyphens=False))
    for parameter in command.params:
        assert isinstance(parameter, TyperArgument | TyperOption)
        assert set(reported.split()) >= {*(parameter.help or "").split()}
        assert parameter.metavar is None or parameter.metavar in reported
        assert parameter.default != DEFAULT_CONFIG or str(DEFAULT_CONFIG) in reported


@pytest.mark.slow
@rows("words", ["smtpgate", *COMMANDS])
def test_help_names_no_type_of_python(words: str) -> None:
    for name in (
        "bool",
        "str",
        "path",
        "list[Path]",
        "IdentityPlace",
        "UserPlace",
        "OwnerPlace",
    ):
        assert f"<{name}>" not in shown(words)


@rows("name", ENTRIES)
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name: str) -> None:
    loaded = DeferredCommand(name, ENTRIES[name]).loaded
    assert " ".join((loaded.help or "").partition("\n\n")[0].split()) == ENTRIES[name].help


def test_neither_version_nor_help_nor_completion_imports_a_command() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from smtpgate.cli import app;"
        "[CliRunner().invoke(app, [word]) for word in ('--version', '--help')];"
        "print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'pydantic', 'sqlalchemy', 'alembic', 'uvicorn', 'cryptography', 'dns', 'aiosmtpd'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == []
