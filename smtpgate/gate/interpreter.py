"""Settings of the interpreter for a process that serves: its threads and its collector.

A thread that computes hands over the interpreter only every so often, and the event loop waits
for it after each of its system calls. The garbage collector looks at every object that may be
part of a cycle. Modules and the other objects of the start are put out of its sight when the
start is done, and the directory's cache has objects that it never looks at.
"""

import gc
import sys
from typing import Final

# Python's own is 5 ms: with one busy thread, a message of ten system calls would take 50 ms.
_SWITCH_S: Final = 0.001

# Full collections are this much rarer than those of the middle generation; Python's own is 10.
_MIDDLE_A_FULL: Final = 100


def share_interpreter() -> None:
    """Have threads that compute give way to the event loop within a millisecond."""
    sys.setswitchinterval(_SWITCH_S)


def settle() -> None:
    """Collect the garbage of the start, and put all other objects out of the collector's sight.

    There are a quarter of a million of them, and each full collection would take 0.2 s. Those
    that remain are of open sessions and of messages; a full collection of them takes some
    milliseconds with a thousand sessions, and is made rare. Call it before connections are
    taken.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _MIDDLE_A_FULL)
