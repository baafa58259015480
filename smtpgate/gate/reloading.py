"""A reload: the configuration, the certificates and the documents, in all processes or none.

The configuration is read and checked, then every process prepares for it, and only when all
have done so they switch. Running messages go on as they began.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final, Protocol

from smtpgate.config import Config, load_config
from smtpgate.config.reloading import ConfigChange, change_of
from smtpgate.control import ReloadAnswer, ReloadRequest, Routes
from smtpgate.gate.apply_alone import apply_alone
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.documents import Apply
from smtpgate.gate.errors import OpenError
from smtpgate.gate.host import Host
from smtpgate.ports import Reading
from smtpgate.tasks import Rhythm, TaskOwner, Threads

# Between two looks at the files of certificates.
_LOOK_S: Final = 60.0


class ChangingGate(Protocol):
    """The processes of a gate, as a reload changes them. Problems are a text each."""

    async def prepare(self, config: Config, certificates: Certificates) -> Iterable[str]:
        """Have all of them prepare for a configuration; nothing changes. Raises OpenError."""

    async def abandon(self) -> None:
        """Have them forget what they have prepared."""

    async def switch(self, config: Config, certificates: Certificates) -> Iterable[str]:
        """Have them use it."""

    async def renew_certificates(self) -> Iterable[str]:
        """Have them use the certificates that were loaded."""

    async def catch_up(self) -> Iterable[str]:
        """Have them obey what has changed in the directory."""


class Reloader:
    """Reloads a gate: by a request, by a signal, and certificates when their files change."""

    def __init__(self, host: Host, processes: ChangingGate, tasks: TaskOwner) -> None:
        """``tasks`` are drained when the gate stops."""
        self._host = host
        self._log = host.log
        self._processes = processes
        self._tasks = tasks
        self._turn = asyncio.Lock()
        self._looks = Rhythm()
        self._threads = Threads("configuration")
        self._is_stopping = False
        self._is_refused, self._restart_keys = False, 0
        host.metrics.watch(self._readings)

    def _readings(self) -> Iterator[Reading]:
        yield Reading("smtpgate_configuration_refused", self._is_refused)
        yield Reading("smtpgate_configuration_restart_keys", self._restart_keys)

    def answer_requests(self, routes: Routes) -> None:
        """Have requests of the control socket answered.

        A reload goes on when its client leaves: else some processes could have switched, and
        others not.
        """

        async def answer(request: ReloadRequest) -> AsyncGenerator[object]:
            reload = self.reload(apply_alone, is_check=request.is_check)
            yield await asyncio.shield(self._tasks.start(reload, name="reload"))

        routes.add(ReloadRequest, answer)

    async def watch_certificates(self) -> None:
        """Load certificates when their files change, until :meth:`stop`."""
        while await self._looks.goes_on(_LOOK_S):
            async with self._turn:
                try:
                    _ = await self._load_certificates(always=False)
                except Exception as error:  # noqa: BLE001 - logged; the next look may succeed
                    self._log.error(error)

    def stop(self) -> None:
        """Change nothing any more: the gate drains."""
        self._is_stopping = True
        self._looks.end()

    async def reload(self, apply: Apply, *, is_check: bool = False) -> ReloadAnswer:
        """Load what has changed; with ``is_check`` only say what that would change.

        A configuration with a problem changes nothing at all. Certificates and documents that
        cannot be used stay as they are. All problems are logged.
        """
        async with self._turn:
            try:
                self._must_run()
                change = await self._read()
                if change is not None and not is_check:
                    await self._follow(change)
            except (ValueError, OSError, OpenError) as error:
                problems = tuple(str(error).splitlines())
                if not is_check:
                    self._is_refused = True
                    self._log.note("error", "configuration refused", problems=problems)
                return ReloadAnswer(problems=problems, is_refused=True)
            if not is_check:
                self._is_refused = False
                self._restart_keys = 0 if change is None else len(change.restart)
            problems = () if is_check else await self._load_others(apply)
            if change is None:
                return ReloadAnswer(problems=problems)
            return ReloadAnswer(change.reloaded, change.restart, problems)

    def _must_run(self) -> None:
        """Raises OpenError once the gate drains."""
        if self._is_stopping:
            raise OpenError("the gate is stopping")

    async def _read(self) -> ConfigChange | None:
        """The change that the file makes; ``None`` if there is no file.

        Raises ValueError, OSError or OpenError.
        """
        config = self._host.config
        if config.file is None:
            return None
        newer = await self._threads.run(load_config, config.file)
        return change_of(config, newer)

    async def _follow(self, change: ConfigChange) -> None:
        """Use the change in all processes, or in none. Raises OSError or OpenError."""
        if change.restart:
            self._log.note("warning", "restart needed", keys=change.restart)
        if not change.reloaded:
            return
        host, config = self._host, change.config
        certificates = Certificates(config, before=host.certificates)
        try:
            problems = tuple(await self._processes.prepare(config, certificates))
            self._must_run()
        except BaseException:
            await self._processes.abandon()
            raise
        if problems:
            await self._processes.abandon()
            raise OpenError("\n".join(problems))
        host.use(config, certificates)
        for problem in await self._processes.switch(config, certificates):
            self._log.note("error", "worker replaced", problem=problem)
        self._log.note("info", "configuration loaded", keys=change.reloaded)

    async def _load_others(self, apply: Apply) -> tuple[str, ...]:
        """Load certificates and documents; the problems, a text each."""
        problems = await self._load_certificates(always=True)
        try:
            await self._host.apply(apply)
            problems += await self._processes.catch_up()
        except Exception as error:  # noqa: BLE001 - logged; the directory stays as it is
            self._log.note("error", "directory not applied", problem=str(error))
            problems.append(str(error))
        return tuple(problems)

    async def _load_certificates(self, *, always: bool) -> list[str]:
        host = self._host
        update = await host.certificates.update(self._log, host.clock, always=always)
        problems = list(update.problems)
        if update.is_changed:
            for problem in await self._processes.renew_certificates():
                self._log.note("error", "certificate not loaded", problem=problem)
                problems.append(problem)
        return problems
