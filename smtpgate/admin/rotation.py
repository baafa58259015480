"""DKIM keys moved from stage to stage when somebody asks for it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from smtpgate.admin.dns_checks import key_check
from smtpgate.admin.retry import change_registered
from smtpgate.core.proof.dkim_record import DkimCheck, unanswered
from smtpgate.core.proof.dkim_stages import StagedKey, activate, checked, retire
from smtpgate.core.proof.registered import Registered
from smtpgate.ports import RegisteredIdentities, Resolver

_Keys = tuple[StagedKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The keys of one domain, at a moment; ``jitter`` is as in next_check_at."""

    registry: RegisteredIdentities
    account_id: str
    domain: str
    now: datetime
    jitter: float

    async def check(self, resolver: Resolver) -> Mapping[str, DkimCheck]:
        """Ask for the record of every key that has to have one; what was found, by selector.

        Raises OvertakenError.
        """
        held = await self.registry.one(self.account_id, self.domain)
        keys = [key for key in held.keys if key.staged.is_published]
        checks = await asyncio.gather(*(key_check(held, key, resolver) for key in keys))
        found = {key.staged.selector: check for key, check in zip(keys, checks, strict=True)}
        await self._move(
            lambda staged: tuple(
                checked(key, found[key.selector], self.now, self.jitter)
                if key.selector in found
                else key
                for key in staged
            )
        )
        return found

    async def activate(self, selector: str, resolver: Resolver, *, force: bool) -> Registered:
        """Let a key sign whose record is published, or whichever when forced.

        The older ones of its algorithm retire. Raises StageError or OvertakenError.
        """
        check = unanswered("not asked for") if force else await self._check(selector, resolver)
        return await self._move(
            lambda staged: activate(staged, selector, check, self.now, force=force)
        )

    async def _check(self, selector: str, resolver: Resolver) -> DkimCheck:
        held = await self.registry.one(self.account_id, self.domain)
        for key in held.keys:
            if key.staged.selector == selector:
                return await key_check(held, key, resolver)
        return unanswered("there is no such key")

    async def retire(self, selector: str, *, force: bool) -> Registered:
        """Let a key sign no longer. Raises StageError or OvertakenError."""
        return await self._move(lambda staged: retire(staged, selector, self.now, force=force))

    async def _move(self, move: Callable[[_Keys], _Keys]) -> Registered:
        async def decide(before: Registered) -> Registered:
            return before.with_staged(move(before.staged))

        return await change_registered(self.registry, self.account_id, self.domain, decide)
