"""JSON of clients: RFC 8259 in UTF-8, without numbers and characters that there are not."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

# What may be half of a surrogate pair (RFC 8259 §8.2): no message or answer can have that.
_HALF: Final = re.compile(r"\\u[Dd][89A-Fa-f]")


def json_value(
    text: str, *, pairs: Callable[[Sequence[tuple[str, Any]]], Any] | None = None
) -> Any:  # noqa: ANN401 - any JSON
    """The value; ``pairs`` makes the objects. Raises ValueError or RecursionError."""
    found = json.loads(text, object_pairs_hook=pairs, parse_constant=_no_number)
    if _HALF.search(text):
        _ = json.dumps(found, ensure_ascii=False).encode()
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
