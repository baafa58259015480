"""The resolver against a name server whose every answer is chosen, over real sockets."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import dns.message
import dns.rcode
import dns.rrset
import pytest
import uvloop

from smtpgate.config.sections import DnsConfig
from smtpgate.core.proof.mail_from import Mx
from smtpgate.core.proof.nameserver import Nameserver, parse_nameserver
from smtpgate.dns.resolver import DnsResolver
from smtpgate.ports import Resolver, ResolverError
from tests.support.rows import rows
from tests.support.scripted_dns import (
    HANG_UP,
    Query,
    ScriptedDns,
    alias,
    answer_of,
    open_dns,
    referral,
    soa,
    texts,
    truncated,
)

pytestmark = pytest.mark.slow

NAME: Final = "_smtpgate.example.com"
TOKEN: Final = b"dG9rZW4="
RIGHT: Final = texts(NAME, TOKEN)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """dnspython pauses before it asks the same servers again."""
    monkeypatch.setattr("dns._asyncio_backend.Backend.sleep", lambda *_: asyncio.sleep(0))


def asking(*servers: ScriptedDns, timeout_s: float = 2, lifetime_s: float = 4) -> DnsResolver:
    """A resolver that asks those servers, in that order."""
    nameservers = tuple(server.nameserver for server in servers)
    return DnsResolver(
        DnsConfig(nameservers=nameservers, timeout_s=timeout_s, lifetime_s=lifetime_s)
    )


def impatient(*servers: ScriptedDns) -> DnsResolver:
    """One that waits for an answer that does not come."""
    return asking(*servers, timeout_s=0.05, lifetime_s=0.06)


def right(query: Query) -> Sequence[bytes]:
    return [answer_of(query, RIGHT)]


async def refusal(resolver: Resolver, name: str = NAME) -> str:
    with pytest.raises(ResolverError) as refused:
        await resolver.txt(name)
    return str(refused.value)


# -- answers -----------------------------------------------------------------------------------


async def test_every_record_is_reported_with_its_strings_joined() -> None:
    long = bytes(range(256)) * 3
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, texts(NAME, TOKEN, long, b""))]
        records = await asking(server).txt(NAME)
        assert sorted(records) == sorted((TOKEN, long, b""))


async def test_a_name_that_does_not_exist_has_no_records() -> None:
    async with open_dns() as server:
        server.knows({})
        assert await asking(server).txt(NAME) == ()
        assert [asked.name for asked in server.asked] == [NAME]


@pytest.mark.parametrize("authority", [[], [soa("example.com")]], ids=["bare", "with SOA"])
async def test_a_name_without_txt_records_has_none(authority: list[Any]) -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, authority=authority)]
        assert await asking(server).txt(NAME) == ()


async def test_names_are_compared_without_case() -> None:
    async with open_dns() as server:
        shouted = texts("_SMTPGATE.Example.COM", TOKEN)
        server.on_udp = lambda query: [answer_of(query, shouted)]
        assert await asking(server).txt(NAME) == (TOKEN,)

        def in_its_own_case(query: Query) -> Sequence[bytes]:
            query.question = [texts(NAME.upper(), b"")]
            query.question[0].clear()
            return right(query)

        server.on_udp = in_its_own_case
        assert await asking(server).txt(NAME) == (TOKEN,)


async def test_the_search_list_of_the_system_is_not_asked() -> None:
    async with open_dns() as server:
        server.knows({})
        assert await asking(server).txt("label") == ()
        assert [asked.name for asked in server.asked] == ["label"]


async def test_answers_are_asked_for_that_fit_a_datagram_without_fragments() -> None:
    async with open_dns() as server:
        server.on_udp = right
        await asking(server).txt(NAME)
        assert (server.asked[0].query.edns, server.asked[0].query.payload) == (0, 1232)


async def test_mx_records_come_with_the_preferred_host_first() -> None:
    async with open_dns() as server:
        lines = ["20 B.example.net.", "5 a.example.net.", "0 ."]
        records = dns.rrset.from_text_list("example.com.", 60, "IN", "MX", lines)
        server.on_udp = lambda query: [answer_of(query, records)]
        assert await asking(server).mx("example.com") == (
            Mx(0, ""),
            Mx(5, "a.example.net"),
            Mx(20, "b.example.net"),
        )
        server.knows({})
        assert await asking(server).mx("example.com") == ()


# -- CNAME -------------------------------------------------------------------------------------


async def test_a_cname_is_followed_within_an_answer() -> None:
    chain = alias(NAME, "a.example.net"), alias("a.example.net", "b.example.net")
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, *chain, texts("b.example.net", TOKEN))]
        assert await asking(server).txt(NAME) == (TOKEN,)
        assert len(server.asked) == 1


async def test_a_cname_is_followed_by_asking_when_the_answer_ends_with_it() -> None:
    async with open_dns() as server:

        def answers(query: Query) -> Sequence[bytes]:
            if query.question[0].name.to_text() == "a.example.net.":
                return [answer_of(query, texts("a.example.net", TOKEN))]
            return [answer_of(query, alias(NAME, "a.example.net"))]

        server.on_udp = answers
        assert await asking(server).txt(NAME) == (TOKEN,)
        assert [asked.name for asked in server.asked] == [NAME, "a.example.net"]


@pytest.mark.parametrize("code", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN], ids=str)
async def test_a_cname_that_leads_nowhere_is_an_answer(code: dns.rcode.Rcode) -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [
            answer_of(
                query, alias(NAME, "a.example.net"), authority=[soa("example.net")], code=code
            )
        ]
        assert await asking(server).txt(NAME) == ()
        assert len(server.asked) == 1


async def test_cnames_without_end_are_no_answer() -> None:
    async with open_dns() as server:

        def one_more(query: Query) -> Sequence[bytes]:
            name = query.question[0].name.to_text(omit_final_dot=True)
            return [answer_of(query, alias(name, f"a.{name}"))]

        server.on_udp = one_more
        assert "more than 8 CNAME records" in await refusal(asking(server))
        assert len(server.asked) == 8


async def test_a_cname_to_itself_is_no_answer() -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, alias(NAME, NAME))]
        assert "malformed answer" in await refusal(asking(server))


# -- no answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        dns.rcode.SERVFAIL,
        dns.rcode.REFUSED,
        dns.rcode.FORMERR,
        dns.rcode.NOTIMP,
        dns.rcode.NOTAUTH,
    ],
    ids=dns.rcode.to_text,
)
async def test_a_server_that_cannot_or_will_not_is_named(code: dns.rcode.Rcode) -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, code=code)]
        assert await refusal(asking(server)) == (
            f"'{NAME}': {server.nameserver} answered {dns.rcode.to_text(code)}"
        )


async def test_a_name_that_became_too_long_on_the_way_is_no_answer() -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, code=dns.rcode.YXDOMAIN)]
        assert "malformed answer" in await refusal(asking(server))


async def test_silence_ends() -> None:
    async with open_dns() as server:
        output = await refusal(impatient(server))
        assert output == f"'{NAME}': {server.nameserver} did not answer in time"


@pytest.mark.slow
async def test_a_question_ends_though_each_name_on_its_way_is_answered_in_time() -> None:
    async with open_dns() as server:

        def when_asked_again(query: Query) -> Sequence[bytes]:
            name = query.question[0].name.to_text(omit_final_dot=True)
            is_first = sum(asked.name == name for asked in server.asked) == 1
            return [] if is_first else [answer_of(query, alias(name, f"a.{name}"))]

        server.on_udp = when_asked_again
        resolver = asking(server, timeout_s=0.3, lifetime_s=1)
        assert await refusal(resolver) == f"'{NAME}': no answer within 1 s"


async def test_a_second_server_is_asked_when_the_first_says_nothing_of_use() -> None:
    async with open_dns() as first, open_dns() as second:
        second.on_udp = right
        first.on_udp = lambda query: [answer_of(query, code=dns.rcode.SERVFAIL)]
        assert await asking(first, second).txt(NAME) == (TOKEN,)
        first.on_udp = lambda query: []
        assert await asking(first, second, timeout_s=0.05).txt(NAME) == (TOKEN,)
        assert len(first.asked) >= 2


async def test_a_referral_is_no_answer() -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, authority=[referral("example.com")])]
        assert "refers to other name servers" in await refusal(asking(server))


async def test_a_denial_with_an_answer_in_it_is_neither() -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [answer_of(query, RIGHT, code=dns.rcode.NXDOMAIN)]
        assert "malformed answer" in await refusal(asking(server))


@pytest.mark.parametrize(
    "name",
    [
        f"_smtpgate.{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 53}.example",
        "a..example",
        "é.example",
    ],
    ids=["too long", "empty label", "not ASCII"],
)
async def test_what_cannot_be_a_name_is_not_asked_for(name: str) -> None:
    async with open_dns() as server:
        assert "cannot be a name" in await refusal(asking(server), name)
        assert not server.asked


# -- answers that are not to be believed -------------------------------------------------------


def wrong_id(query: Query) -> bytes:
    return answer_of(query, texts(NAME, b"wrong"), message_id=query.id ^ 1)


def wrong_question(query: Query) -> bytes:
    other = dns.message.make_query("other.example.com", "TXT", id=query.id)
    return answer_of(other, texts("other.example.com", b"wrong"))


def wrong_type(query: Query) -> bytes:
    other = dns.message.make_query(NAME, "A", id=query.id)
    return answer_of(other)


def a_query(query: Query) -> bytes:
    return query.to_wire()


def garbage(query: Query) -> bytes:
    return b"\xfd" * 40


def half(query: Query) -> bytes:
    return answer_of(query, RIGHT)[:-5]


def more(query: Query) -> bytes:
    return answer_of(query, RIGHT) + b"more"


def another_name(query: Query) -> bytes:
    """An answer to the question, which holds a record of another name."""
    return answer_of(query, texts("other.example.com", b"wrong"))


MISTAKES: Final = [wrong_id, wrong_question, wrong_type, a_query, garbage, half, more]


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_wrong_datagram_does_not_keep_the_right_one_out(
    mistake: Callable[[Query], bytes],
) -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [mistake(query), *right(query)]
        assert await asking(server).txt(NAME) == (TOKEN,)


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_wrong_datagram_alone_is_no_answer(mistake: Callable[[Query], bytes]) -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [mistake(query)]
        assert "did not answer in time" in await refusal(impatient(server))


async def test_a_record_of_another_name_is_not_taken() -> None:
    async with open_dns() as server:
        server.on_udp = lambda query: [another_name(query)]
        assert await asking(server).txt(NAME) == ()


async def test_a_datagram_from_elsewhere_is_not_taken() -> None:
    async with open_dns() as server:
        asked = asyncio.ensure_future(asking(server).txt(NAME))
        await server.until(lambda: bool(server.asked))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
            forged = answer_of(server.asked[0].query, texts(NAME, b"wrong"))
            elsewhere.sendto(forged, ("127.0.0.1", server.asked[0].peer[1]))
        server.send(answer_of(server.asked[0].query, RIGHT), server.asked[0].peer)
        assert await asked == (TOKEN,)


async def test_the_answer_to_a_question_given_up_is_not_taken_for_the_next() -> None:
    async with open_dns() as server:

        def late(query: Query) -> Sequence[bytes]:
            first = server.asked[0]
            if len(server.asked) == 1:
                return []
            stale = answer_of(first.query, texts(NAME, b"stale"))
            server.send(stale, first.peer)
            return [stale, *right(query)]

        server.on_udp = late
        assert await asking(server, timeout_s=0.05).txt(NAME) == (TOKEN,)
        assert server.asked[0].peer != server.asked[1].peer


# -- long answers, by TCP ----------------------------------------------------------------------


def too_long(query: Query) -> Sequence[bytes]:
    return [truncated(query)]


async def test_what_is_too_long_for_a_datagram_is_asked_for_by_tcp() -> None:
    many = [b"%03d" % number + b"x" * 100 for number in range(200)]
    async with open_dns() as server:
        server.on_udp = too_long
        server.on_tcp = lambda query: [answer_of(query, texts(NAME, *many))]
        assert sorted(await asking(server).txt(NAME)) == many
        assert [asked.transport for asked in server.asked] == ["udp", "tcp"]


async def test_a_denial_may_come_by_tcp() -> None:
    async with open_dns() as server:
        server.on_udp = too_long
        server.on_tcp = lambda query: [answer_of(query, code=dns.rcode.NXDOMAIN)]
        assert await asking(server).txt(NAME) == ()


async def test_a_truncated_answer_to_another_question_is_not_followed() -> None:
    async with open_dns() as server:

        def forged(query: Query) -> Sequence[bytes]:
            other = dns.message.make_query("other.example.com", "TXT", id=query.id)
            return [truncated(other), *right(query)]

        server.on_udp = forged
        assert await asking(server).txt(NAME) == (TOKEN,)
        assert [asked.transport for asked in server.asked] == ["udp"]


@rows(
    "on_tcp, says",
    [
        (too_long, "sent a truncated answer"),
        (lambda query: [HANG_UP], "closed the connection"),
        (lambda query: [wrong_id(query)], "malformed answer"),
        (lambda query: [wrong_question(query)], "malformed answer"),
        (lambda query: [garbage(query)], "malformed answer"),
        (lambda query: [half(query)], "malformed answer"),
        (lambda query: [more(query)], "malformed answer"),
        (lambda query: [b""], "malformed answer"),
        (lambda query: [answer_of(query, code=dns.rcode.SERVFAIL)], "SERVFAIL"),
    ],
    ids=["cut", "hang up", "id", "question", "garbage", "half", "more", "empty", "servfail"],
)
async def test_a_long_answer_that_is_not_right_is_none(
    on_tcp: Callable[[Query], Sequence[bytes]], says: str
) -> None:
    async with open_dns() as server:
        server.on_udp, server.on_tcp = too_long, on_tcp
        output = await refusal(asking(server))
        assert output.startswith(f"'{NAME}': {server.nameserver} ")
        assert output.endswith(says)


async def test_a_server_that_takes_no_tcp_gives_no_long_answer() -> None:
    async with open_dns(tcp=False) as server:
        server.on_udp = too_long
        assert await refusal(asking(server)) == (
            f"'{NAME}': {server.nameserver} cannot be queried: connection refused"
        )


async def test_silence_on_tcp_ends() -> None:
    async with open_dns() as server:
        server.on_udp = too_long
        assert "did not answer in time" in await refusal(impatient(server))


@pytest.mark.parametrize(
    "values", [[b"%04d" % n for n in range(257)], [b"%04d" % n * 1024 for n in range(9)]]
)
async def test_more_records_than_can_be_looked_at_are_no_answer(values: list[bytes]) -> None:
    async with open_dns() as server:
        server.on_udp = too_long
        server.on_tcp = lambda query: [answer_of(query, texts(NAME, *values))]
        assert "too many or too large TXT records" in await refusal(asking(server))
        values.pop()
        assert len(await asking(server).txt(NAME)) == len(values)


# -- the resolver itself -----------------------------------------------------------------------


async def test_no_more_than_64_questions_are_out_at_once() -> None:
    async with open_dns() as server:
        resolver = asking(server)
        questions = [
            asyncio.ensure_future(resolver.txt(f"n{number}.example.com"))
            for number in range(100)
        ]
        await server.until(lambda: len(server.asked) >= 64)
        server.knows({"n99.example.com": [TOKEN]})
        assert await asking(server).txt("later.example.com") == ()
        assert len(server.asked) == 64 + 1
        for asked in server.asked[:64]:
            (answer,) = server.on_udp(asked.query)
            server.send(answer, asked.peer)
        records = await asyncio.gather(*questions)
        assert records == [()] * 99 + [(TOKEN,)]


async def test_a_question_can_be_given_up() -> None:
    async with open_dns() as server:
        question = asyncio.ensure_future(asking(server).txt(NAME))
        await server.until(lambda: bool(server.asked))
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question


async def test_the_systems_name_servers_are_those_of_its_file_now(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    resolver = DnsResolver(DnsConfig(timeout_s=0.05, lifetime_s=0.05), system_file=str(file))
    assert await refusal(resolver) == (
        f"{file} cannot be read or names no name server; set those to ask"
    )
    file.write_text("search example.net\nnameserver 127.255.255.253\n")
    output = await refusal(resolver)
    assert output.startswith(f"'{NAME}': ")
    assert "127.255.255.253" in output or "no answer within" in output


@pytest.mark.parametrize(
    "text", ["", "search example.net\n", "nameserver example\n", "nameserver \xff\n"]
)
async def test_a_system_without_name_servers_is_reported(tmp_path: Path, text: str) -> None:
    file = tmp_path / "resolv.conf"
    file.write_bytes(text.encode("latin-1"))
    assert "names no name server" in await refusal(
        DnsResolver(DnsConfig(), system_file=str(file))
    )


async def test_a_name_server_can_have_an_ipv6_address() -> None:
    async with open_dns(host="::1") as server:
        server.on_udp, server.on_tcp = too_long, right
        assert await asking(server).txt(NAME) == (TOKEN,)


async def test_a_name_server_that_cannot_be_reached_is_reported() -> None:
    nowhere = Nameserver(parse_nameserver("255.255.255.255").address)
    output = await refusal(
        DnsResolver(DnsConfig(nameservers=(nowhere,), timeout_s=0.05, lifetime_s=0.05))
    )
    assert "255.255.255.255 cannot be queried" in output


# -- on uvloop, as the gate runs in production -------------------------------------------------

SCENES: Final[list[Callable[[], Coroutine[Any, Any, None]]]] = [
    test_every_record_is_reported_with_its_strings_joined,
    test_a_name_that_does_not_exist_has_no_records,
    test_a_cname_is_followed_by_asking_when_the_answer_ends_with_it,
    test_silence_ends,
    test_a_datagram_from_elsewhere_is_not_taken,
    test_a_name_server_can_have_an_ipv6_address,
    test_the_answer_to_a_question_given_up_is_not_taken_for_the_next,
    test_what_is_too_long_for_a_datagram_is_asked_for_by_tcp,
    test_a_server_that_takes_no_tcp_gives_no_long_answer,
    test_silence_on_tcp_ends,
    test_no_more_than_64_questions_are_out_at_once,
    test_a_question_can_be_given_up,
    test_a_name_server_that_cannot_be_reached_is_reported,
]


@pytest.mark.slow
@rows("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_resolver_works_on_uvloop(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
