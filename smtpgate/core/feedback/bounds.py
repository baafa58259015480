"""Bounds on the cost of one report: a stranger wrote it, and nobody has authenticated it.

Each step takes time that grows with these bounds at most linearly, so a report takes well under
a second, whatever is in it. Text beyond a bound is not read.
"""

from typing import Final

# A report, with the message that it returns. Its own parts come first; the rest is not needed.
MAX_OCTETS: Final = 2 * 1024 * 1024
# multipart/report in multipart/mixed in multipart/signed, as lists and scanners wrap them.
MAX_DEPTH: Final = 8
# A report has three parts; those of scanners and of lists that forward them a dozen.
MAX_PARTS: Final = 100
# Each header block, MIME part's header and returned message's header.
MAX_BLOCK_OCTETS: Final = 64 * 1024
MAX_FIELDS: Final = 400
# One field's value: a diagnostic of an upstream with many lines has some kilobytes.
MAX_VALUE: Final = 8 * 1024
# Texts for people in which addresses and reasons are searched.
MAX_TEXT: Final = 64 * 1024
MAX_LINES: Final = 2000
# A line of text: beyond RFC 5322 §2.1.1's 998 octets there are only texts without line ends.
MAX_LINE: Final = 2000
# More than any gate accepts for one message.
MAX_RECIPIENTS: Final = 2000
# A recipient's diagnostic, as it is kept.
MAX_DIAGNOSTIC: Final = 1000
# A path of 254 octets (RFC 5321 §4.5.3.1.3) with a type and the escapes of RFC 6533 §3.
MAX_ADDRESS: Final = 1024
