"""Turns: which account's message is next when many wait for few connections.

An account has connections in use and messages in line. The next turn is that of the account
with the fewest connections in use, and among equals of the one whose last turn is longest ago;
within an account first come, first served. So a slow connection counts as much as a fast one,
and 60 messages of one account delay another's single one by one turn. No account has more than
its share in use, so that a new account need not wait until another account's message is sent.
Mail of the gate itself, which has no account, gets a turn when no account waits.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Turns(Generic[T]):
    """Messages that wait and connections in use, by account; one may use ``share`` of them.

    ``waiting`` is the number of waiting messages.
    """

    def __init__(self, share: int) -> None:
        self.share = share
        self.waiting = 0
        self._in_use: dict[str, int] = {}
        # In the order of their turns: the account that was served last is last.
        self._lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()

    def waiting_of(self, account: str) -> int:
        """The number of waiting messages of an account."""
        return len(self._lines.get(account, ()))

    def before(self, account: str) -> int:
        """The messages that have their turn before a new one of that account.

        By turns, no other account sends more of its own meanwhile than this one has waiting.
        """
        own = self.waiting_of(account)
        others = (
            min(len(line), own + 1) for name, line in self._lines.items() if name != account
        )
        return own + sum(others)

    def has_share(self, account: str) -> bool:
        """True if the account may use one more."""
        return self._in_use.get(account, 0) < self.share

    def take_share(self, account: str) -> bool:
        """The account uses one more if it may; false if it may not."""
        used = self._in_use.get(account, 0)
        if used >= self.share:
            return False
        self._in_use[account] = used + 1
        return True

    def take(self, account: str) -> None:
        """The account uses one more."""
        self._in_use[account] = self._in_use.get(account, 0) + 1

    def give_back(self, account: str) -> None:
        """The account uses one fewer."""
        left = self._in_use[account] - 1
        if left:
            self._in_use[account] = left
        else:
            del self._in_use[account]

    def join(self, account: str, waiter: T, *, is_first: bool = False) -> None:
        """Join the line; first of the account when the message was in line before."""
        line = self._lines.setdefault(account, OrderedDict())
        line[waiter] = None
        if is_first:
            line.move_to_end(waiter, last=False)
        self.waiting += 1

    def leave(self, account: str, waiter: T) -> bool:
        """Leave the line; whether the message was in it."""
        line = self._lines.get(account)
        if line is None or waiter not in line:
            return False
        del line[waiter]
        self.waiting -= 1
        if not line:
            del self._lines[account]
        return True

    def clear(self) -> list[T]:
        """Take all out of the line."""
        waiters = [waiter for line in self._lines.values() for waiter in line]
        self._lines.clear()
        self.waiting = 0
        return waiters

    def next(self) -> tuple[str, T] | None:
        """Take the next one out of the line; ``None`` when none may use more."""
        best, least = None, self.share
        for account in self._lines:
            if not account and len(self._lines) > 1:
                continue
            used = self._in_use.get(account, 0)
            if used < least:
                best, least = account, used
                if not used:
                    break
        if best is None and self._in_use.get("", 0) < self.share and "" in self._lines:
            best = ""
        if best is None:
            return None
        waiter = next(iter(self._lines[best]))
        self._lines.move_to_end(best)
        self.leave(best, waiter)
        return best, waiter
