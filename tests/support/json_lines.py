"""Read the JSON lines of a file that a process is still writing."""

import json
from typing import Any


def json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text, one a line; other lines are passed over.

    The last line counts only with its end: it may be a part of one that is being written.
    """
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.split("\n") if line.startswith("{")]
