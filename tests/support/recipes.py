"""The recipes of the guide to mail servers as clients, with a test's gate filled in.

A recipe is a heading with the server's name, and below it files, each as::

    In `/etc/file`, which only root may read (mode 600):

    ```
    its text
    ```

``Added to`` in place of ``In`` marks lines that a reader may add.
"""

import re
from dataclasses import dataclass
from typing import Final

from tests.support.gate import HOSTNAME
from tests.support.reference import guide
from tests.support.relayhost import Relayhost

CA_FILE: Final = "/etc/ssl/certs/ca-certificates.crt"
_FILE: Final = re.compile(
    r"^(In|Added to) `(/[^`]+)`(?:[^\n]*\(mode (\d+)\))?[^\n]*:\n\n```\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A file of a recipe: its path on a reader's host, its text, and its rights."""

    path: str
    text: str
    mode: int = 0o644
    is_optional: bool = False

    def with_lines(self, before: str, lines: str) -> str:
        """Its text, with more lines before one that it has."""
        assert before in self.text, f"{self.path} has no {before!r}"
        return self.text.replace(before, f"{lines}{before}", 1)


def recipe(server: str, relay: Relayhost, fingerprint: str = "") -> list[RecipeFile]:
    """The files that the guide shows for a mail server, for that gate."""
    section = re.search(rf"^## {server}\n(.*?)^## ", guide("relays"), re.DOTALL | re.MULTILINE)
    assert section is not None, f"the guide has no recipe for {server}"
    found = [
        RecipeFile(path, _filled(text, relay, fingerprint), int(mode or "644", 8), how != "In")
        for how, path, mode, text in _FILE.findall(section[1])
    ]
    assert found, f"the recipe for {server} names no file"
    return found


def _filled(text: str, relay: Relayhost, fingerprint: str) -> str:
    facts = {
        HOSTNAME: relay.tls_name,
        "ACCESS-KEY-ID": relay.username,
        "PASSWORD": relay.password,
        "SHA256-OF-THE-CERTIFICATE": fingerprint,
    }
    for word, value in facts.items():
        text = text.replace(word, value)
    text = re.sub(r"\b587\b", str(relay.port), text)
    if relay.has_implicit_tls:
        text = text.replace(" starttls ", " tls ")
    return text
