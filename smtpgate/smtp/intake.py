"""Taking a message in: finding the final dot in bulk, and bounding the octets in flight.

A message takes room in memory. One larger than ``spool_octets`` goes to a file: it keeps that
much room in memory, and takes room in files for all of its octets.
"""

import sys
from typing import Final

from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.limits.sums import LocalSums, Sums
from smtpgate.core.message.dots import find_with_dot

_DOT: Final = 46
_LINE_DOT: Final = b"\r\n."
_FINAL_DOT: Final = b"\r\n.\r\n"  # RFC 5321 §4.1.1.4: nothing less ends the data
_SMALL_OCTETS: Final = 64 * 1024
_FILES: Final = "files"


class _Pool:
    """Room for the octets of messages in flight, counted by account.

    An account may take ``share`` of the room that the other accounts leave, so there is always
    some left for an account that has none yet.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        share: float,
        sums: Sums,
        full: BudgetName = "inflight-octets",
    ) -> None:
        self._name = name
        self._limit = limit
        self._share = share
        self._sums = sums
        self._full = full
        # While all accounts together have no more, none has more than its share.
        self._no_more_than_one = share * limit

    @property
    def taken(self) -> int:
        """Octets of all messages in this room."""
        return self._sums.sum(self._name)

    def take(self, account: str, octets: int) -> BudgetName | None:
        """Take room for so many octets, or name the bound that they would pass."""
        keys = self._name, (self._name, account)
        taken = self._sums.add_to_all(keys, octets)
        if taken <= self._no_more_than_one:
            return None
        own = self._sums.sum(keys[1])
        refusal: BudgetName | None = None
        if taken > self._limit:
            refusal = self._full
        elif own > self._share * (self._limit - taken + own):
            refusal = "inflight-share"
        if refusal is not None:
            self._sums.subtract_from_all(keys, octets)
        return refusal

    def force(self, account: str, octets: int) -> None:
        """Take room for so many octets, whatever the bounds are."""
        _ = self._sums.add_to_all((self._name, (self._name, account)), octets)

    def give_back(self, account: str, octets: int) -> None:
        """Give the room of so many octets back."""
        self._sums.subtract_from_all((self._name, (self._name, account)), octets)


ROOMS: Final = ("most", "reserve", "spooled")
"""The keys under which the octets of all messages are counted."""


class Intake:
    """The octets of all messages in flight, against a bound.

    ``reserve`` of them are for small messages that find no other room: large ones cannot keep
    these out. Messages larger than ``spool_octets`` go to at most ``max_files`` files, which
    together have at most ``spool_limit`` octets. Octets are counted in sums that other
    processes may share, files in those of this process: after a reload there is another intake,
    and messages that came in before it still have theirs.
    """

    def __init__(
        self,
        limit: int,
        *,
        share: float = 1.0,
        reserve: int = 0,
        spool_octets: int = sys.maxsize,
        spool_limit: int = 0,
        max_files: int = 1,
        sums: Sums | None = None,
        open_files: LocalSums | None = None,
    ) -> None:
        counted: Sums = sums or LocalSums()
        most, reserved, spooled = ROOMS
        self.most = _Pool(most, limit - reserve, share, counted)
        self.reserve = _Pool(reserved, reserve, share, counted)
        self.spooled = _Pool(spooled, spool_limit, share, counted, "spooled-octets")
        self.spool_octets = spool_octets
        self._open_files = open_files or LocalSums()
        self.max_files = max_files

    @property
    def files(self) -> int:
        """Messages that have a file, or are about to get one."""
        return self._open_files.sum(_FILES)

    def count_file(self, number: int) -> None:
        """There are so many files more."""
        _ = self._open_files.add(_FILES, number)

    @property
    def taken(self) -> int:
        """Octets in memory of all messages in flight."""
        return self.most.taken + self.reserve.taken


class MessageIntake:
    """Watches one growing buffer for the final dot.

    A message that is too long, or for which there is no room now, is still read to its end, but
    thrown away as it comes, so that the session can go on; it takes no room from then on.
    ``refusal`` then names the bound.
    """

    __slots__ = (
        "_account",
        "_has_beginning",
        "_intake",
        "_pool",
        "_start",
        "goes_to_file",
        "has_dots",
        "in_file",
        "max_octets",
        "octets",
        "refusal",
        "spool_octets",
        "spooled",
        "taken",
    )

    def __init__(self, intake: Intake, max_octets: int, account: str) -> None:
        self.refusal: BudgetName | None = None
        self.taken = 0
        self.spooled = 0
        self.octets = 0  # that have come, as far as they were counted
        self.in_file = 0  # moved there from the buffer
        self.goes_to_file = False  # the message is too large for memory
        # True once a line before the final dot may begin with a dot, added by the client.
        self.has_dots = False
        self._has_beginning = True  # the buffer has the first octets of the message
        self._intake = intake
        self._pool = intake.most
        self._account = account
        self.max_octets = max_octets
        self.spool_octets = intake.spool_octets  # of the largest message in memory
        self._start = 0

    def look(self, buffer: bytearray) -> int | None:
        """The message's size, once its final dot is in the buffer."""
        end = self._end(buffer)
        self.count(self.in_file + (len(buffer) if end is None else end))
        if end is None:
            if self.refusal and len(buffer) > 4:
                del buffer[:-4]
                self._has_beginning = False
            self._start = max(0, len(buffer) - 4)
        return end

    def _end(self, buffer: bytearray) -> int | None:
        if self._has_beginning and buffer and buffer[0] == _DOT:
            self.has_dots = True
            # The final dot of an empty message follows the CRLF of the DATA command.
            if buffer.startswith(b".\r\n"):
                return 0
        start = self._start
        if not self.has_dots:
            # Mostly the final dot is the only one that begins a line: one search for both.
            start = find_with_dot(buffer, _LINE_DOT, start)
            if start < 0:
                return None
            self.has_dots = buffer[start : start + len(_FINAL_DOT)] != _FINAL_DOT
        at = find_with_dot(buffer, _FINAL_DOT, start) if self.has_dots else start
        return None if at < 0 else at + 2

    def count(self, octets: int) -> None:
        """So many octets of the message have come in all: have room for them, or refuse it."""
        if self.refusal:
            return
        self.octets = octets
        self.goes_to_file = self.in_file > 0 or octets > self.spool_octets
        if octets > self.max_octets:
            self.refuse("message-octets")
            return
        in_memory = min(self.spool_octets, octets)
        refusal: BudgetName | None = None
        if in_memory > self.taken:
            refusal = self._fit(self._intake.most, in_memory)
            if refusal is not None:
                refusal = self._fit_elsewhere(in_memory, refusal)
        elif in_memory < self.taken:  # commands were pipelined behind the final dot
            self._pool.give_back(self._account, self.taken - in_memory)
            self.taken = in_memory
        if refusal is None and self.goes_to_file:
            refusal = self._spool(octets)
        if refusal is not None:
            self.refuse(refusal)

    def moved(self, octets: int) -> None:
        """So many octets were taken from the beginning of the buffer, for the file."""
        self.in_file += octets
        self._has_beginning = False
        self._start = 0

    def refuse(self, refusal: BudgetName) -> None:
        """Read the rest of the message, and throw it away."""
        self.refusal = refusal
        self.release()

    def _spool(self, octets: int) -> BudgetName | None:
        """Have room in a file for so many octets in all, or name the bound."""
        intake, more = self._intake, octets - self.spooled
        if not self.spooled:
            if intake.files >= intake.max_files:
                return "spooled-octets"
            intake.count_file(1)
        if more < 0:
            intake.spooled.give_back(self._account, -more)
        elif intake.spooled.taken == self.spooled:  # the only message always fits
            intake.spooled.force(self._account, more)
        elif (refusal := intake.spooled.take(self._account, more)) is not None:
            intake.count_file(-(not self.spooled))
            return refusal
        self.spooled = octets
        return None

    def _fit(self, pool: _Pool, octets: int) -> BudgetName | None:
        """Hold so many in all in that pool, or name the bound that they would pass there."""
        is_same = pool is self._pool
        refusal = pool.take(self._account, octets - self.taken if is_same else octets)
        if refusal is None:
            if not is_same:
                self._pool.give_back(self._account, self.taken)
                self._pool = pool
            self.taken = octets
        return refusal

    def _fit_elsewhere(self, octets: int, refusal: BudgetName) -> BudgetName | None:
        """Hold so many in all though most of the room is taken, or return its refusal."""
        most, reserve = self._intake.most, self._intake.reserve
        if octets <= _SMALL_OCTETS and self._fit(reserve, octets) is None:
            return None
        if self._intake.taken != self.taken:
            return refusal
        # The only message always fits, wherever it began.
        self._pool.give_back(self._account, self.taken)
        most.force(self._account, octets)
        self._pool, self.taken = most, octets
        return None

    def release(self) -> None:
        """Give the message's room back."""
        self._pool.give_back(self._account, self.taken)
        self.taken = 0
        if self.spooled:
            self._intake.spooled.give_back(self._account, self.spooled)
            self._intake.count_file(-1)
            self.spooled = 0
