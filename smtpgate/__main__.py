"""``python -m smtpgate``."""

from smtpgate.cli import main

main()
