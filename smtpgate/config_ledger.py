"""The configuration of the ledger: what keeps the counts, and where."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from smtpgate.config_values import RedisUrl, SecretFile, is_loopback
from smtpgate.core.secret import Secret
from smtpgate.tomlfile import Location, OwnPath, Table, problems

__all__ = ["LedgerConfig"]


class LedgerConfig(Table):
    """``[ledger]``: where sending limits are counted."""

    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    path: OwnPath | None = None
    url: RedisUrl | None = None
    url_file: SecretFile = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5
    lease_s: Annotated[float, Field(ge=60, le=86400)] = 900

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        found = list(self._about_places())
        if found:
            raise problems(found)
        return self

    def _about_places(self) -> Iterator[tuple[Location, str]]:
        if self.path is not None and self.kind != "sqlite":
            yield ("path",), 'is only for kind = "sqlite"'
        for key in ("url", "url_file"):
            if getattr(self, key) is not None and self.kind != "redis":
                yield (key,), 'is only for kind = "redis"'
        if self.kind == "redis" and (self.url is None) == (self.url_file is None):
            text = "is missing" if self.url is None else "stands beside url_file"
            yield ("url",), f'{text}; kind = "redis" needs one of url and url_file'

    def unwise(self) -> Iterator[str]:
        """What is allowed but unwise."""
        server = urlsplit(self.server_url.value)
        if server.scheme == "redis" and not is_loopback(server.hostname or ""):
            yield "ledger: redis:// asks another machine in clear text; rediss:// is with TLS"

    @property
    def server_url(self) -> Secret:
        """Where the server is; it may hold a password."""
        return self.url_file or Secret(self.url or "")
