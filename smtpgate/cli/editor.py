"""A text in the user's editor: a file until it is saved, so that nothing is lost."""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from smtpgate.cli.terminal import errors, fail


class Draft:
    """A file that only its author can read."""

    def __init__(self, name: str, text: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="smtpgate-")) / name
        self.path.write_text(text, "utf-8")

    def edit(self, environment: Mapping[str, str] = os.environ) -> str:
        """The text after its author has left the editor. Exits with 1 when there is none."""
        chosen = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
        try:
            words = shlex.split(chosen)
            done = subprocess.run([*words, str(self.path)], check=False)  # noqa: S603 - theirs
        except (OSError, ValueError) as error:
            self.remove()
            raise fail(f"the editor `{chosen}' cannot be started: {error}") from None
        if done.returncode != 0:
            raise fail(f"the editor ended with status {done.returncode}; {self.where}")
        try:
            return self.path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise fail(f"{self.path}: cannot be read: {error}") from None

    @property
    def where(self) -> str:
        """Its place, as the end of a message."""
        return f"your draft is {self.path}"

    @contextmanager
    def kept_on_failure(self) -> Iterator[None]:
        """Say where the draft is if the command fails."""
        try:
            yield
        except typer.Exit:
            errors.print(self.where)
            raise

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
        self.path.parent.rmdir()
