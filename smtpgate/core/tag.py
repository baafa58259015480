"""Tags of resources: their bounds, as AWS has them.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Tag.html
"""

import re
from collections.abc import Iterable
from typing import Final

_MAX_KEY: Final = 128
_MAX_VALUE: Final = 256
_TEXT: Final = re.compile(r"[\w \t_.:/=+@-]*")


class ResourceTagError(ValueError):
    """A tag that no resource can have."""


def read_tags(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Tags by key: letters, digits, white space and ``_.:/=+-@``. Raises ResourceTagError."""
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= _MAX_KEY or _TEXT.fullmatch(key) is None:
            raise ResourceTagError(
                f"Tag key {key[:_MAX_KEY]!r} has to have 1 to {_MAX_KEY} letters, digits, "
                "spaces or characters of _.:/=+-@."
            )
        if key.lower().startswith("aws:"):
            raise ResourceTagError(f"Tag key {key!r} begins with aws:, which is AWS's own.")
        if len(value) > _MAX_VALUE or _TEXT.fullmatch(value) is None:
            raise ResourceTagError(
                f"The value of tag {key!r} has to have at most {_MAX_VALUE} letters, digits, "
                "spaces or characters of _.:/=+-@."
            )
        if key in tags:
            raise ResourceTagError(f"Tag key {key!r} is given twice.")
        tags[key] = value
    return tags
