"""The revision of the first release's tables, which later revisions change.

There is nothing to do: new tables are made from ``smtpgate/directory/schema.py``. Smaller
numbers were those of unreleased versions, whose tables are not upgraded.
"""

from typing import Final

revision: Final = "0006"
down_revision: Final = None
