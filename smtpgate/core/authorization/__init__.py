"""May this principal send this message: which identity serves each role, and what policies say.

Bottom-up: ``context`` makes the condition keys' values, ``roles`` decides, ``charges`` says
which limits a permitted message counts against, ``reports`` treats a relay's reports.
"""

from smtpgate.core.authorization.roles import (
    Authorization,
    Denial,
    Known,
    Question,
    authorize,
    effort,
    identity_names,
    more_specific,
)

__all__ = [
    "Authorization",
    "Denial",
    "Known",
    "Question",
    "authorize",
    "effort",
    "identity_names",
    "more_specific",
]
