"""The TLS settings of connections to one upstream; changed files are loaded again.

Files are looked at when a connection is opened, at most every few seconds. A file that cannot
be used leaves the settings as they were.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography import x509

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.ports import Reading
from smtpgate.tasks import TaskOwner

_LOOKED_AT_EVERY_S: Final = 10.0
_PATIENCE_S: Final = 1.0  # with the disk; after that the old settings serve once more
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

OnFiles = Callable[[str, str | None], None]
"""Is called with an upstream's name and why its changed files cannot be used, or ``None``."""
_Stamp = tuple[tuple[int, int, int] | None, ...]


class ClientTls:
    """The settings of one upstream, or none with ``tls = "off"``.

    ``on_files`` is also called when changed files can be used. Raises OSError for files that
    cannot be used at the start.
    """

    def __init__(
        self, config: UpstreamConfig, tasks: TaskOwner, on_files: OnFiles | None = None
    ) -> None:
        self._config = config
        self._tasks = tasks
        self._on_files = on_files
        self._files = [
            file for file in (config.ca_file, config.cert_file, config.key_file) if file
        ]
        self._stamp = self._look()
        self._look_at = 0.0
        self._problem: str | None = None
        self._context, self._not_after = _load(config)

    def readings(self) -> Iterator[Reading]:
        """The state of our certificate, for a scrape."""
        if self._files:
            name, is_old = (self._config.name,), float(self._problem is not None)
            yield Reading("smtpgate_upstream_certificate_not_loaded", is_old, name)
        if self._not_after is not None:
            metric = "smtpgate_upstream_certificate_not_after_timestamp_seconds"
            yield Reading(metric, self._not_after, (self._config.name,))

    async def context(self) -> ssl.SSLContext | None:
        """The settings for a new connection."""
        now = asyncio.get_running_loop().time()
        if self._files and now >= self._look_at:
            self._look_at = now + _LOOKED_AT_EVERY_S
            stamp = self._look()
            if stamp != self._stamp:
                loading = self._tasks.start(self._load(stamp), name="upstream-tls")
                await asyncio.wait([loading], timeout=_PATIENCE_S)
        return self._context

    async def _load(self, stamp: _Stamp) -> None:
        self._stamp = stamp  # tried once; a file that is written just now changes again
        before = self._problem
        try:
            # In a thread, because the system's authorities take 30 ms.
            loaded = await asyncio.to_thread(_load, self._config)
        except (OSError, ValueError) as error:
            self._problem = str(error)
        else:
            (self._context, self._not_after), self._problem = loaded, None
        if self._on_files is not None and (self._problem or before):
            self._on_files(self._config.name, self._problem)

    def _look(self) -> _Stamp:
        return tuple(map(_stamp_of, self._files))


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _load(config: UpstreamConfig) -> tuple[ssl.SSLContext | None, float | None]:
    """The settings, and when our certificate ends, in seconds since 1970. Raises OSError."""
    context = tls_context(config)
    if context is None or config.cert_file is None:
        return context, None
    certificate = x509.load_pem_x509_certificate(config.cert_file.read_bytes())
    return context, certificate.not_valid_after_utc.timestamp()


def tls_context(config: UpstreamConfig) -> ssl.SSLContext | None:
    """The settings that the configuration and its files make. Raises OSError."""
    if config.tls == "off":
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except ssl.SSLError:
        raise OSError(f"ca_file {config.ca_file}: has no certificate in PEM") from None
    if config.tls == "opportunistic":  # RFC 7435 §3: some protection is better than none
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.minimum_version = _VERSIONS[config.min_tls]  # RFC 8997, RFC 8314 §4.1
    if config.cert_file is not None:
        _present(context, config.cert_file, config.key_file)
    return context


def _present(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    """Show the server a certificate of ours. Raises OSError."""
    try:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        problem = getattr(error, "reason", None) or str(error)
        text = problem.lower().replace("_", " ")
        raise OSError(f"{cert_file}, {key_file}: {text}") from None


def _no_password() -> str:
    raise ValueError("the private key has a password")
