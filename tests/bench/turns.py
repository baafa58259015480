"""The turns of an event loop that are long: by the clock, and by what the gate itself does.

A timer of the loop fires every millisecond in each process of a gate. By how much it is late is
how long the loop was stopped. On a machine that others use, a part of that is the time in which
the process was ready and had no processor; the kernel counts that time for each thread. What is
left is the gate's own: its computing, its waits for the interpreter's lock, and for the disk.
The CPU time of the loop's thread since the timer fired before is computing alone; up to a
millisecond of it is of earlier turns.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

_EVERY_S: Final = 0.001
# Shorter ones are not written.
_LONG_S: Final = 0.001
_WHERE_S: Final = 0.004
_FRAMES: Final = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was long."""

    at_s: float  # of the monotonic clock
    process: int
    late_s: float
    own_s: float
    cpu_s: float
    where: str = ""

    def line(self) -> str:
        """The turn as the file has it."""
        times = f"{self.at_s:.6f} {self.process}"
        return f"{times} {self.late_s:.6f} {self.own_s:.6f} {self.cpu_s:.6f} {self.where}\n"


def turns_in(file: Path, since_s: float, until_s: float) -> Iterator[Turn]:
    """The long turns that ended between these two times."""
    for line in file.read_text().splitlines():
        at, process, late, own, cpu, *where = line.split(" ", 5)
        if since_s <= float(at) <= until_s:
            times = float(late), float(own), float(cpu)
            yield Turn(float(at), int(process), *times, *where)


def _waited_s() -> float:
    """The time in which this thread was ready and had no processor, until now."""
    return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9


@dataclass
class TurnRecorder:
    """Writes the long turns of the running loop to a file, from ``start`` on.

    With ``is_asking_where`` a thread notes what the loop does in them. That thread takes the
    interpreter's lock a thousand times a second, so the times are longer.
    """

    file: Path
    is_asking_where: bool = False
    _due_s: float = 0.0
    _cpu_s: float = 0.0
    _waited_s: float = 0.0
    _where: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Record the turns from now on."""
        self._loop = asyncio.get_running_loop()
        self._opened = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        if self.is_asking_where:
            thread = threading.get_ident()
            threading.Thread(target=self._ask_where, args=(thread,), daemon=True).start()
        self._begin()

    def _begin(self) -> None:
        self._due_s = time.monotonic() + _EVERY_S
        self._cpu_s, self._waited_s = time.thread_time(), _waited_s()
        self._loop.call_later(_EVERY_S, self._fire)

    def _fire(self) -> None:
        now_s = time.monotonic()
        late_s, cpu_s = now_s - self._due_s, time.thread_time() - self._cpu_s
        if late_s > _LONG_S or cpu_s > _LONG_S:
            own_s = max(0.0, late_s - (_waited_s() - self._waited_s))
            where, self._where = " | ".join(self._where), []
            turn = Turn(now_s, os.getpid(), late_s, own_s, cpu_s, where)
            os.write(self._opened, turn.line().encode())
        self._begin()

    def _ask_where(self, thread: int) -> None:
        while True:
            time.sleep(_EVERY_S)
            if time.monotonic() - self._due_s > _WHERE_S and len(self._where) < _FRAMES:
                frame = sys._current_frames().get(thread)
                self._where.append(_described(frame))


def _described(frame: FrameType | None) -> str:
    """The innermost functions of a stack."""
    names: list[str] = []
    while frame is not None and len(names) < _FRAMES:
        code = frame.f_code
        names.append(f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(names)
