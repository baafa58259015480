"""The parts of ``[feedback]``: the keys of the gate's own return paths."""

from smtpgate.config import Config
from smtpgate.core.feedback.return_path import PathTagger
from smtpgate.gate.errors import OpenError
from smtpgate.key_file import keys_in, make_key_file, new_key


def open_tagger(config: Config) -> PathTagger | None:
    """The maker of return paths, or ``None`` if there is no listener for bounces.

    Its keys are those of ``feedback.key_file``, or of a file in the state folder that the first
    start makes. Raises OpenError.
    """
    feedback = config.feedback
    if not feedback.enabled:
        return None
    if feedback.key_file is not None:
        try:
            return PathTagger(keys_in(feedback.key_file.value))
        except ValueError as error:
            raise OpenError(f"feedback.key_file {error}") from None
    path = config.gate.state_dir / "feedback.key"
    try:
        if not path.exists():
            make_key_file(path, new_key())
        return PathTagger(keys_in(path.read_text("ascii")))
    except (OSError, ValueError) as error:
        raise OpenError(f"{path}: {error}") from None
