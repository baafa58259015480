"""Mail servers that send with BDAT where it is offered (RFC 3030), as Exim does."""

import re

from tests.integration.test_recipients_clients import open_way
from tests.support.daemons import Lab, eventually
from tests.support.gate import SENDER

DOTS = b".\r\n..\r\n.\r\nQUIT\r\n" * 4_000  # more than one of its chunks
HEAD = f"From: {SENDER}\r\nTo: jane@example.net\r\nSubject: dots\r\n\r\n".encode()


def test_exim_sends_a_message_in_chunks_and_no_octet_of_its_body_changes(lab: Lab) -> None:
    way = open_way(lab, "exim")
    way.server.inject((HEAD + DOTS).replace(b"\r\n", b"\n"), SENDER, ["jane@example.net"])
    way.run_until(lambda: bool(way.upstream.messages), "the message at the upstream")
    (kept,) = way.upstream.messages
    assert kept.message.partition(b"\r\n\r\n")[2] == DOTS
    # RFC 3030 in its log: K for CHUNKING.
    eventually(lambda: re.search(r"=> .* K .*C=\"250", way.server.log()) is not None, "the log")
