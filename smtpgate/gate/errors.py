"""The one error of opening a part of the gate."""


class OpenError(Exception):
    """A part that cannot be opened; the text names the section and key, and says what to do."""
