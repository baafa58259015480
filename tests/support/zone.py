"""A name server with a zone of records of any type, which tests change while it serves.

A zone has a list of values by ``NAME TYPE``; the value SERVFAIL is an answer without any.
"""

from collections.abc import Sequence

import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.scripted_dns import Query, ScriptedDns, answer_of, soa, texts

Zone = dict[str, list[str]]
FAILS = "SERVFAIL"


def serve_zone(server: ScriptedDns, zone: Zone) -> None:
    """Have the server answer with what the zone has at that moment."""
    server.on_udp = lambda query: [_answer(query, zone)]


def _answer(query: Query, zone: Zone) -> bytes:
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    kind = dns.rdatatype.to_text(question.rdtype)
    values = zone.get(f"{name} {kind}")
    if values == [FAILS]:
        return answer_of(query, code=dns.rcode.SERVFAIL)
    if values is not None:
        return answer_of(query, _records(name, kind, values))
    is_known = any(known.split()[0] == name for known in zone)
    code = dns.rcode.NOERROR if is_known else dns.rcode.NXDOMAIN
    return answer_of(query, code=code, authority=[soa("example.com")])


def _records(name: str, kind: str, values: Sequence[str]) -> dns.rrset.RRset:
    if kind == "TXT":
        return texts(name, *(value.encode() for value in values))
    return dns.rrset.from_text_list(f"{name}.", 60, "IN", kind, list(values))
