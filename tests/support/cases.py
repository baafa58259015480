"""Case files: tables that a reader of no Python can review."""

import tomllib
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent.parent / "cases"


def load_cases(name: str) -> list[dict[str, Any]]:
    """The cases of one TOML file; ``note`` says what each shows."""
    cases: list[dict[str, Any]] = tomllib.loads((CASES / name).read_text("utf-8"))["case"]
    return cases
