"""The two accounts of most tests: one owns a domain, the other sends for it."""

from typing import Final

OWNER: Final = "888888888888"
DELEGATE: Final = "999999999999"
PAUSED: Final = "777777777777"  # where a third one is needed
IDENTITY: Final = f"arn:aws:ses:us-east-1:{OWNER}:identity/ses-example.com"
