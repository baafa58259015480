"""The tables of the first release: new tables need no revision, so it does nothing."""

from typing import Final

revision: Final = "0004"
down_revision: Final = None
