"""The requests of ``smtpgate bans``: in each process that takes mail, and in the asked one."""

from collections.abc import AsyncGenerator, Callable

import msgspec

from smtpgate.banning import BanList
from smtpgate.control import (
    BansAnswer,
    BansPart,
    BansRequest,
    Peers,
    RefusedError,
    Routes,
)
from smtpgate.core.limits.bans import Ban


def answer_part(routes: Routes, bans: BanList) -> None:
    """Have this process show and change its list."""

    async def answer(part: BansPart) -> AsyncGenerator[object]:
        is_changed = False
        try:
            if part.action == "add":
                bans.add(part.address, part.until_s)
                is_changed = True
            elif part.action == "remove":
                is_changed = bans.remove(part.address)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        yield BansAnswer(tuple(bans.in_force()), is_changed)

    routes.add(BansPart, answer)


def answer_requests(routes: Routes, peers: Callable[[], Peers]) -> None:
    """Have requests of the control socket answered, by all processes that take mail.

    A ban may be younger in one than in another, so the longest of a client is shown.
    """

    async def answer(request: BansRequest) -> AsyncGenerator[object]:
        found: dict[str, Ban] = {}
        is_changed = False
        part = BansPart(request.action, request.address, request.until_s)
        async for one in peers().ask(part):
            if one.problem is not None:
                raise RefusedError(one.problem)
            said = msgspec.convert(one.value, BansAnswer)
            is_changed = is_changed or said.is_changed
            for ban in said.bans:
                if ban.client not in found or found[ban.client].until_s < ban.until_s:
                    found[ban.client] = ban
        bans = sorted(found.values(), key=lambda ban: (ban.until_s, ban.client))
        yield BansAnswer(tuple(bans), is_changed)

    routes.add(BansRequest, answer)
