"""The configuration: one TOML file, read into frozen models, with no key that is not known.

Bottom-up: ``toml`` reads a file with positions, ``values`` are the values of keys,
``sections`` the sections, ``file`` the whole.
"""

from smtpgate.config.file import Config, ConfigError, load_config
from smtpgate.config.sections import (
    AuthorizationConfig,
    DatabaseConfig,
    DirectoryConfig,
    DnsConfig,
    GateConfig,
    HttpConfig,
    JournalConfig,
    LedgerConfig,
    LimitsConfig,
    ListenerConfig,
    LogConfig,
    MessageConfig,
    MetricsConfig,
    PolicyConfig,
    SigningConfig,
    UpstreamConfig,
)

__all__ = [
    "AuthorizationConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "DirectoryConfig",
    "DnsConfig",
    "GateConfig",
    "HttpConfig",
    "JournalConfig",
    "LedgerConfig",
    "LimitsConfig",
    "ListenerConfig",
    "LogConfig",
    "MessageConfig",
    "MetricsConfig",
    "PolicyConfig",
    "SigningConfig",
    "UpstreamConfig",
    "load_config",
]
