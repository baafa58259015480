"""The answers of a token endpoint (RFC 6749 §5): a token, or why there is none."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from smtpgate.core.secret import Secret
from smtpgate.ports import NoTokenError

_SUCCESS: Final = 200
# What a server means that does not say it; it is asked again soon.
_DEFAULT_LIFETIME_S: Final = 300.0
_MAX_LIFETIME_S: Final = 86_400.0
_MAX_SHOWN: Final = 200
# RFC 6749 appendix A.12 has VSCHAR; with spaces none could stand in a login.
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, the seconds that it lasts, and another refresh token or ``None``."""

    value: Secret
    lifetime_s: float
    refresh_token: Secret | None = None


def token_of(status: int, content: bytes) -> Token:
    """The token of an answer. Raises NoTokenError, whose text has no secret."""
    found = _object(content)
    if status != _SUCCESS:
        raise NoTokenError(_refusal(status, found))
    token, kind, renewed = (
        found.get(key, "") for key in ("access_token", "token_type", "refresh_token")
    )
    if not (isinstance(token, str) and token):
        raise NoTokenError("the token endpoint's answer has no token")
    if not (isinstance(kind, str) and kind.lower() == "bearer"):
        raise NoTokenError("the token endpoint's answer has a token of another type")
    if _TOKEN.fullmatch(token) is None:
        raise NoTokenError("the token endpoint's answer has a token that cannot be sent")
    has_other = isinstance(renewed, str) and bool(renewed) and renewed.isprintable()
    return Token(
        Secret(token),
        _lifetime(found.get("expires_in", _DEFAULT_LIFETIME_S)),
        Secret(renewed) if has_other else None,
    )


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object of an answer; an empty one if it has none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lifetime(expires_in: object) -> float:
    """The seconds; some servers write the number as a text."""
    try:
        seconds = float(expires_in) if isinstance(expires_in, int | float | str) else 0.0
    except (ValueError, OverflowError):
        seconds = 0.0
    if not seconds > 0:
        raise NoTokenError("the token endpoint's answer has a token that has ended")
    return min(seconds, _MAX_LIFETIME_S)


def _refusal(status: int, found: dict[str, Any]) -> str:
    words = (found.get("error"), found.get("error_description"))
    text = ": ".join(word for word in words if isinstance(word, str) and word)
    shown = "".join(one if one.isprintable() else " " for one in text)[:_MAX_SHOWN].strip()
    problem = f"the token endpoint answered {status}"
    return f"{problem}: {shown}" if shown else problem
