"""The configuration: one TOML file, read into frozen models without unknown keys.

Bottom-up: ``toml`` reads a file with positions, ``values`` has the types of values,
``sections`` the sections, ``file`` the whole.
"""

from smtpgate.config.file import Config, ConfigError, load_config

__all__ = ["Config", "ConfigError", "load_config"]
