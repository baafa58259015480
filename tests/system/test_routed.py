"""Several upstreams: which of them gets a message, and which does not after another had it."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import pytest
import trustme

from smtpgate.config.routes import RouteConfig
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import RoutedUpstream
from tests.support.daemons import free_port
from tests.support.routed import named, routed_to
from tests.support.rows import rows
from tests.support.upstream_server import (
    ALICE,
    HANG_UP,
    HOLD,
    SILENCE,
    TO_BOB,
    TO_BOTH,
    UpstreamServer,
    open_upstream,
)
from tests.support.waiting import until

TO_JOSE: Final = Envelope.of(
    ReversePath(ALICE), [Mailbox("josé", "example.net")], smtputf8=True
)
MESSAGE: Final = [b"Subject: Spring\r\n\r\n", b"Hello\r\n"]


@dataclass
class Sent:
    """The end of a message, and the upstreams that it was tried at."""

    delivery: Delivery
    attempt: DeliveryAttempt

    @property
    def causes(self) -> list[tuple[str, str]]:
        """The upstreams that were of no use, and why."""
        return [(one.upstream, one.cause) for one in self.attempt.failed]

    @property
    def by(self) -> str:
        """The upstream that accepted it."""
        assert isinstance(self.delivery, Answered)
        assert self.delivery.is_accepted
        return self.delivery.upstream


async def send(
    upstream: RoutedUpstream,
    envelope: Envelope = TO_BOB,
    attempt: DeliveryAttempt | None = None,
) -> Sent:
    attempt = attempt or DeliveryAttempt("111122223333")
    return Sent(await upstream.deliver(envelope, MESSAGE, attempt), attempt)


async def open_upstreams(stack: AsyncExitStack, *names: str) -> list[UpstreamServer]:
    return [await stack.enter_async_context(open_upstream("PIPELINING")) for _ in names]


# -- what another upstream is tried for --------------------------------------------------------

# The step at which the first upstream fails, its answer, and the cause that is noted.
FAILURES: Final = (
    ("CONNECT", "421 4.3.2 stopping", "421"),
    ("CONNECT", "554 5.0.0 not you", "refused"),
    ("CONNECT", HANG_UP, "lost"),
    ("EHLO", "502 5.5.2 what?", "refused"),
    ("MAIL", "421 4.7.0 later", "421"),
    ("MAIL", HANG_UP, "lost"),
    ("RCPT", "421 4.7.0 later", "421"),
    ("RCPT", "334 what", "protocol"),
    ("DATA", "421 4.7.0 later", "421"),
    ("DATA", HANG_UP, "lost"),
)


@rows("step, answer, cause", FAILURES)
async def test_a_message_goes_to_the_next_upstream_when_one_is_of_no_use(
    step: str, answer: str, cause: str
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers[step] = answer
        configs = named(first, "first"), named(second, "second", priority=20)
        upstream = await stack.enter_async_context(routed_to(*configs))
        sent = await send(upstream)
        assert sent.by == "second"
        assert sent.causes == [("first", cause)]
        assert len(second.messages) == 1
        assert not first.messages


# The step at which the first upstream answers, the answer, and whether the message was sent.
VERDICTS: Final = (
    ("MAIL", "451 4.3.0 not now", 0),
    ("MAIL", "550 5.7.1 not you", 0),
    ("RCPT", "450 4.2.0 greylisted", 0),
    ("RCPT", "550 5.1.1 no such user", 0),
    ("DATA", "554 5.7.1 no", 0),
    ("MESSAGE", "451 4.3.0 disk full", 1),
    ("MESSAGE", "550 5.7.1 spam", 1),
)


@rows("step, answer, sent", VERDICTS)
async def test_a_refusal_is_a_verdict_and_goes_to_no_other_upstream(
    step: str, answer: str, sent: int
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.offers, first.answers[step] = (), answer
        configs = named(first, "first"), named(second, "second", priority=20)
        upstream = await stack.enter_async_context(routed_to(*configs))
        outcome = await send(upstream)
        assert isinstance(outcome.delivery, Answered)
        assert str(outcome.delivery.reply) == answer
        assert outcome.causes == []
        assert (len(first.messages), len(second.visits)) == (sent, 0)


@pytest.mark.parametrize(
    ("answer", "wanted"), [(HANG_UP, InDoubt), ("421 4.3.2 stopping", NotSent)]
)
async def test_nothing_is_sent_again_after_the_final_dot(
    answer: str, wanted: type[Delivery]
) -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers["MESSAGE"] = answer
        configs = named(first, "first"), named(second, "second", priority=20)
        upstream = await stack.enter_async_context(routed_to(*configs))
        assert isinstance((await send(upstream)).delivery, wanted)
        assert (len(first.messages), len(second.visits)) == (1, 0)


async def test_a_message_whose_refusals_are_recorded_stays_with_its_upstream() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers |= {
            "RCPT": lambda command: "550 5.1.1 no" if "carol" in command else "250 ok",
            "DATA": "421 4.3.2 stopping",
        }
        configs = named(first, "first"), named(second, "second", priority=20)
        upstream = await stack.enter_async_context(routed_to(*configs))

        async def record(*_: object) -> bool:
            return True

        sent = await send(upstream, TO_BOTH, DeliveryAttempt(in_part=record))
        assert isinstance(sent.delivery, NotSent)
        assert not second.visits


async def test_one_that_lacks_an_extension_leaves_the_message_to_one_that_has_it() -> None:
    async with (
        open_upstream("PIPELINING") as first,
        open_upstream("SMTPUTF8", "8BITMIME") as second,
        routed_to(named(first, "first"), named(second, "second", priority=20)) as upstream,
    ):
        sent = await send(upstream, TO_JOSE)
        assert (sent.by, sent.causes) == ("second", [("first", "extension")])


async def test_a_message_that_no_upstream_can_take_now_may_be_tried_again() -> None:
    async with (
        open_upstream("PIPELINING") as first,
        routed_to(
            named(first, "first"), named(first, "second", priority=20, port=free_port())
        ) as upstream,
    ):
        sent = await send(upstream, TO_JOSE)
        assert sent.causes == [("first", "extension"), ("second", "connect")]
        assert isinstance(sent.delivery, NotSent)
        assert sent.delivery.reason == "upstream-unreachable"


async def test_an_upstream_that_was_not_asked_may_have_what_another_lacks() -> None:
    async with (
        open_upstream("SMTPUTF8") as first,
        open_upstream("PIPELINING") as second,
        routed_to(
            named(first, "first", max_failures=1), named(second, "second", priority=20)
        ) as upstream,
    ):
        first.answers["CONNECT"] = HANG_UP
        await send(upstream)
        sent = await send(upstream, TO_JOSE)
        assert sent.causes == [("first", "open"), ("second", "extension")]
        assert isinstance(sent.delivery, NotSent)
        assert sent.delivery.reason == "upstream-unreachable"


async def test_all_tries_have_one_deadline() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers["DATA"] = second.answers["DATA"] = HOLD
        config = {"deadline_s": 0.2, "command_timeout_s": 5}
        configs = named(first, "first", **config), named(second, "second", **config)
        upstream = await stack.enter_async_context(routed_to(*configs))
        sent = await send(upstream)
        assert isinstance(sent.delivery, NotSent)
        assert sent.causes == [("first", "timeout")]
        assert not second.visits


# -- order -------------------------------------------------------------------------------------


async def test_the_fallback_is_tried_after_the_whole_group() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        port = free_port()
        configs = (
            named(first, "fallback", priority=0),
            named(first, "gone", port=port),
            named(second, "group", priority=30),
        )
        routes = [RouteConfig(name="all", upstreams=("gone", "group"), fallback=("fallback",))]
        upstream = await stack.enter_async_context(routed_to(*configs, routes=routes))
        sent = await send(upstream)
        assert (sent.by, sent.causes) == ("group", [("gone", "connect")])
        second.answers["MAIL"] = HANG_UP
        sent = await send(upstream)
        assert sent.by == "fallback"
        assert sent.causes == [("gone", "connect"), ("group", "lost")]


async def test_messages_are_shared_by_weight() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        draws = iter([0.1, 0.7, 0.8, 0.2])
        configs = named(first, "first", weight=3), named(second, "second")
        upstream = await stack.enter_async_context(
            routed_to(*configs, chance=lambda: next(draws))
        )
        assert [(await send(upstream)).by for _ in range(4)] == [
            "first",
            "first",
            "second",
            "first",
        ]


async def test_a_message_does_not_wait_while_an_equal_upstream_has_room() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers["MESSAGE"] = HOLD
        few = {"max_connections": 1}
        configs = named(first, "first", **few), named(second, "second", **few)
        upstream = await stack.enter_async_context(routed_to(*configs))
        delayed = asyncio.create_task(send(upstream))
        await first.until(lambda: bool(first.messages))
        assert (await send(upstream)).by == "second"
        first.release()
        assert (await delayed).by == "first"


# -- facts -------------------------------------------------------------------------------------


async def test_a_client_is_offered_what_all_have_that_may_get_its_messages() -> None:
    async with (
        open_upstream("SIZE 2000", "8BITMIME", "DSN") as first,
        open_upstream("SIZE 1000", "8BITMIME", "SMTPUTF8") as second,
    ):
        routes = [
            RouteConfig(name="one", upstreams=("first",), accounts=("111122223333",)),
            RouteConfig(name="rest", upstreams=("second",)),
        ]
        configs = named(first, "first"), named(second, "second")
        async with routed_to(*configs, routes=routes) as upstream:
            anyone = upstream.facts("x")
            assert (anyone.extensions, anyone.max_octets) == (None, None)
            of_route = {route.name: route for route in upstream.routes}
            await send(upstream, attempt=DeliveryAttempt(route=of_route["one"]))
            assert anyone.max_octets == 2000, "the other is not known yet"
            await send(upstream)
            assert anyone.extensions is not None
            assert "8BITMIME" in anyone.extensions
            assert not {"DSN", "SMTPUTF8"} & anyone.extensions
            assert anyone.max_octets == 1000
            one, other = (
                upstream.facts("x", "111122223333"),
                upstream.facts("x", "444455556666"),
            )
            assert (one.max_octets, other.max_octets) == (2000, 1000)
            assert one.max_recipients is None
            assert upstream.facts("y", "777788889999") is other


# -- TLS, login, silence, connections ----------------------------------------------------------


def other_servers_tls() -> ssl.SSLContext:
    """The TLS of a server with a certificate of an authority that is not trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("mx.example.net").configure_cert(context)
    return context


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_an_upstream_with_a_wrong_certificate_gets_no_message(is_implicit: bool) -> None:
    settings = {"tls": "required", "tls_implicit": is_implicit}
    tls = other_servers_tls()
    async with (
        open_upstream("STARTTLS", tls=tls, is_implicit=is_implicit) as first,
        open_upstream("PIPELINING") as second,
        routed_to(
            named(first, "first", **settings), named(second, "second", priority=20)
        ) as upstream,
    ):
        sent = await send(upstream)
        assert (sent.by, sent.causes) == ("second", [("first", "tls")])
        assert "certificate not accepted" in sent.attempt.failed[0].problem
        assert all("MAIL" not in visit.verbs for visit in first.visits)


async def test_an_upstream_that_offers_no_tls_or_refuses_the_login_gets_no_message() -> None:
    login = {"username": "gate", "password": Secret("tanstaaf")}
    async with AsyncExitStack() as stack:
        first, second, third = await open_upstreams(stack, "first", "second", "third")
        second.offers = ("AUTH PLAIN",)
        second.answers["AUTH"] = "535 5.7.8 no"
        configs = (
            named(first, "first", tls="required"),
            named(second, "second", priority=20, **login),
            named(third, "third", priority=30),
        )
        upstream = await stack.enter_async_context(routed_to(*configs))
        sent = await send(upstream)
        assert sent.by == "third"
        assert sent.causes == [("first", "tls"), ("second", "login")]


@rows("step", ["CONNECT", "EHLO", "MAIL", "DATA"])
async def test_a_frozen_upstream_costs_one_timeout_and_no_message(step: str) -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers[step], first.silence_s = SILENCE, 6.0  # the relay waits for 5 seconds
        configs = named(first, "first"), named(second, "second", priority=20)
        upstream = await stack.enter_async_context(routed_to(*configs))
        sent = await send(upstream)
        assert (sent.by, sent.causes) == ("second", [("first", "timeout")])


async def test_messages_use_the_connections_that_work_and_then_an_equal_upstream() -> None:
    async with AsyncExitStack() as stack:
        first, second = await open_upstreams(stack, "first", "second")
        first.answers |= {
            "CONNECT": lambda _: (
                "220 mx" if first.open_visits <= 1 else "421 4.7.0 too many connections"
            ),
            "MESSAGE": HOLD,
        }
        configs = named(first, "first"), named(second, "second")
        upstream = await stack.enter_async_context(routed_to(*configs))
        one = asyncio.create_task(send(upstream))
        await first.until(lambda: bool(first.messages))
        two = asyncio.create_task(send(upstream))  # it waits for the connection that works
        await until(lambda: upstream.pools["first"].waiting == 1)
        assert (await send(upstream)).by == "second"
        first.release()
        assert [(await one).by, (await two).by] == ["first", "first"]
        assert (await one).causes == (await two).causes == []
