"""The tables of this version."""

from typing import Final

revision: Final = "0006"
down_revision: Final = None
