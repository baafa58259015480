"""smtpgate whose workers have a second to end after their parent, and not ten.

``python -m tests.support.hasty WORDS…``; the words are those of the program's command line.
"""

from typing import Final

from smtpgate.cli import main
from smtpgate.workers import fork_server

_ORPHANS_S: Final = 1.0

if __name__ == "__main__":
    fork_server._ORPHANS_S = _ORPHANS_S  # type: ignore[misc]
    main()
