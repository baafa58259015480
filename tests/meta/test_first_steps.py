"""The first steps of an operator who installs smtpgate from its documents."""

import re
import tomllib
from itertools import chain
from typing import Final

import pytest

from tests.support.rows import rows
from tests.support.source import ROOT

TEXTS: Final = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in chain(ROOT.glob("*.md"), (ROOT / "smtpgate").rglob("*.md"))
    if path.name != "CHANGELOG.md"
}
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"].keys() - {"dev"}))
def test_the_documents_say_how_to_install_what_is_needed_for_more(extra: str) -> None:
    lines = re.findall(
        r"^/opt/smtpgate/bin/pip install '\.\[(.*)\]'$", "\n".join(TEXTS.values()), re.MULTILINE
    )
    assert extra in {name for line in lines for name in line.split(",")}


def test_the_command_is_on_the_path_before_it_is_given() -> None:
    blocks = [block for text in TEXTS.values() for block in _BLOCK.findall(text)]
    installing = [block for block in blocks if " -m venv " in block]
    assert installing
    for block in installing:
        made = re.search(r"^\S+ -m venv (\S+)$", block, re.MULTILINE)
        assert made is not None
        before, _, _ = block.partition("\nsmtpgate ")
        assert f"\nln -s {made[1]}/bin/smtpgate /usr/local/bin/smtpgate" in before


@rows("name", sorted(TEXTS))
def test_codes_are_written_as_readers_know_them(name: str) -> None:
    """RFC 5321's 4yz is read as a typing error."""
    assert re.findall(r"\b[2-5](?:yz|[xX][xX])\b", TEXTS[name]) == []
