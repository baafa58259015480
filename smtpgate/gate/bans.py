"""The requests of ``smtpgate bans``: in each process that takes mail, and in the asked one."""

from collections.abc import AsyncGenerator, Callable

import msgspec

from smtpgate.banning import BanList
from smtpgate.config import Config
from smtpgate.control import BansAnswer, BansPart, BansRequest, Peers, RefusedError, Routes
from smtpgate.core.limits.bans import Ban
from smtpgate.gate.settings import ban_rules
from smtpgate.gate.sinks import SilentSink
from smtpgate.ports import Clock


def answer_part(routes: Routes, bans: BanList) -> None:
    """Have this process show and change its list."""

    async def answer(part: BansPart) -> AsyncGenerator[object]:
        is_changed = _obey(part, bans)
        yield BansAnswer(tuple(bans.in_force()), is_changed)

    routes.add(BansPart, answer)


def answer_requests(
    routes: Routes, peers: Callable[[], Peers], kept: Callable[[], BanList | None]
) -> None:
    """Have requests of the control socket answered, by all processes that take mail.

    A ban may be younger in one than in another, so the longest of a client is shown. ``kept``
    is the list for workers that start later, if there are workers; it is changed at the moment
    when the others get the request.
    """

    async def answer(request: BansRequest) -> AsyncGenerator[object]:
        found: dict[str, Ban] = {}
        is_changed = False
        part = BansPart(request.action, request.address, request.until_s)
        if (list_ := kept()) is not None:
            _ = _obey(part, list_)
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


def new_kept_list(config: Config, clock: Clock) -> BanList:
    """The list of a parent, for workers that start later; it reports nothing."""
    return BanList(ban_rules(config), config.bans.trusted, clock=clock, events=SilentSink())


def _obey(part: BansPart, bans: BanList) -> bool:
    """Change a list; whether that changed something. Raises RefusedError."""
    try:
        if part.action == "add":
            bans.add(part.address, part.until_s)
            return True
        return part.action == "remove" and bans.remove(part.address)
    except ValueError as error:
        raise RefusedError(str(error)) from None
