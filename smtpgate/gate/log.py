"""The log, from ``[log]``."""

from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.gate.errors import OpenError
from smtpgate.log import JsonLog
from smtpgate.ports import Clock


def new_log(config: Config, clock: Clock) -> JsonLog:
    """The log, its file open. Raises OpenError."""
    try:
        return JsonLog(config.log, clock=clock)
    except OSError as error:
        text = f"log.target: {config.log.target} cannot be opened: {reason(error)}"
        raise OpenError(f"{text}; name a file in a folder that the service may write") from None
