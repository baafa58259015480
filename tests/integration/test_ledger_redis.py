"""A real Redis that is restarted, cut off, slow, full, a replica, or forgets the scripts."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from redis import Redis

from smtpgate.clock import SystemClock
from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.events import Event, LedgerClockChanged
from smtpgate.core.limits import Charge, LimitExceededError, Reservation, Subject
from smtpgate.gate.errors import OpenError
from smtpgate.gate.gate import Gate
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ledger.redis_link import Link, Script
from smtpgate.ledger.watch import LedgerWatch
from smtpgate.ports import LedgerUnavailableError, LedgerUnfitError
from tests.support.authority import Authority
from tests.support.badline import open_line
from tests.support.clock import MovableClock
from tests.support.daemons import LOOPBACK, Lab, free_port
from tests.support.dialog import Dialog
from tests.support.inprocess import login, open_gate, send
from tests.support.ledgers import RedisServer, redis_server, soon, used_24h

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SUBJECT: Final = Subject("999999999999")
CHARGES: Final = [
    Charge(SUBJECT, SendingLimits(100, UNLIMITED)),
    Charge(Subject("999999999999", "user", "mailer"), SendingLimits(UNLIMITED, 1000)),
]
TIMEOUT_S: Final = 2.0  # a busy machine may need a second for an answer


class Kept:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def server(lab: Lab) -> RedisServer:
    return redis_server(lab)


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisLedger]:
    ledger = RedisLedger(url, timeout_s=TIMEOUT_S)
    try:
        yield ledger
    finally:
        await ledger.close()


async def used(ledger: RedisLedger) -> int | None:
    try:
        return await used_24h(ledger, SUBJECT, NOW)
    except LedgerUnavailableError:
        return None


async def try_many(ledger: RedisLedger, number: int) -> int:
    """The number that passed; the others learned in time that the ledger is unavailable."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    tries = [ledger.reserve(CHARGES, 1, NOW) for _ in range(number)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert loop.time() - started < TIMEOUT_S * 3
    passed = [one for one in outcomes if isinstance(one, Reservation)]
    failed = [one for one in outcomes if isinstance(one, LedgerUnavailableError)]
    assert len(passed) + len(failed) == number
    return len(passed)


async def test_a_restart_of_the_server_loses_nothing(server: RedisServer) -> None:
    async with opened(server.url) as ledger:
        kept, undone = [await ledger.reserve(CHARGES, 5, NOW) for _ in range(2)]
        await ledger.commit(kept, 5, NOW)
        server.daemon.signal(signal.SIGKILL)
        server.daemon.wait()
        assert await try_many(ledger, 20) == 0
        await ledger.refund(undone, NOW)
        server.start()
        await soon(lambda: used(ledger), 5)
        assert (await ledger.reserve(CHARGES, 1, NOW)).used == (6, 6)


async def test_a_server_that_restarts_is_waited_for_and_everything_is_counted_once(
    server: RedisServer,
) -> None:
    ledger = RedisLedger(server.url, timeout_s=10)
    charges = [Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED))]
    outcomes: list[Reservation | BaseException] = []
    is_over = False

    async def send() -> None:
        while not is_over:
            (outcome,) = await asyncio.gather(
                ledger.reserve(charges, 1, NOW), return_exceptions=True
            )
            outcomes.append(outcome)
            if isinstance(outcome, Reservation):
                await ledger.commit(outcome, 1, NOW)
            await asyncio.sleep(0.01)

    senders = [asyncio.ensure_future(send()) for _ in range(20)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        await asyncio.sleep(0.3)
        server.daemon.signal(number)
        await asyncio.to_thread(server.daemon.wait)
        await asyncio.sleep(0.5)  # nobody listens for a while, and connections are refused
        await asyncio.to_thread(server.start)
    await asyncio.sleep(0.3)
    is_over = True
    await asyncio.gather(*senders)
    assert not [one for one in outcomes if not isinstance(one, Reservation)]
    assert await used_24h(ledger, SUBJECT, NOW) == len(outcomes) > 100
    await ledger.close()


async def test_a_question_whose_answer_was_lost_is_asked_again_and_counted_once(
    server: RedisServer, admin: Redis
) -> None:
    async with open_line(server.port) as line:
        ledger = RedisLedger(f"redis://{LOOPBACK}:{line.port}", timeout_s=10)
        await ledger.reserve(CHARGES, 1, NOW)
        line.cuts_after_question = True
        reservation, refused = await asyncio.gather(
            ledger.reserve(CHARGES, 5, NOW),
            ledger.reserve(CHARGES, 101, NOW),
            return_exceptions=True,
        )
        assert isinstance(reservation, Reservation)
        assert isinstance(refused, LimitExceededError)
        assert reservation.used == (6, 6)
        await ledger.commit(reservation, 2, NOW)
        await soon(lambda: used(ledger), 3)
        # An earlier copy that comes now finds that it is too late.
        undone = f"smtpgate:1:{{{SUBJECT.account_id}}}:open:{reservation.id}"
        assert admin.get(undone) == "undone"
        await ledger.close()


async def test_a_late_copy_of_a_question_counts_nothing_when_the_settlement_was_delayed(
    server: RedisServer, admin: Redis
) -> None:
    async with open_line(server.port) as line, opened(f"redis://{LOOPBACK}:{line.port}") as one:
        await one.reserve(CHARGES, 1, NOW)
        line.cuts_after_question = True
        reservation = await one.reserve(CHARGES, 5, NOW)
        line.swallows_questions = True
        assert await one.commit(reservation, 2, NOW) == ()
        line.swallows_questions = False

        await soon(lambda: used(one), 3)
        key = f"smtpgate:1:{{{SUBJECT.account_id}}}:open:{reservation.id}"
        assert admin.get(key) == "undone"


@pytest.mark.parametrize("skew_s", [-90, 0, 90])
async def test_a_probe_tells_the_time_of_the_server_and_not_ours(
    server: RedisServer, skew_s: int
) -> None:
    clock, kept = MovableClock(datetime.now(UTC) + timedelta(seconds=skew_s)), Kept()
    async with opened(server.url) as ledger:
        watch = LedgerWatch(ledger, clock=clock, events=kept, on_error=lambda _: None)
        await watch.look()
    assert abs(watch.skew_s + skew_s) < 1
    assert [type(event) for event in kept.events] == [LedgerClockChanged] * bool(skew_s)


async def test_hosts_whose_clocks_differ_share_a_rate_exactly_and_fairly(
    server: RedisServer,
) -> None:
    rate, limits = 50, SendingLimits(UNLIMITED, 50)
    charges = [Charge(SUBJECT, limits)]
    loop = asyncio.get_running_loop()
    passed = dict.fromkeys((-90, 0, 90), 0)

    async def host(skew_s: int) -> None:
        async with opened(server.url) as ledger:
            while loop.time() < end:
                now = datetime.now(UTC) + timedelta(seconds=skew_s)
                try:
                    await ledger.reserve(charges, 1, now)
                    passed[skew_s] += 1
                except LimitExceededError:
                    await asyncio.sleep(0.005)

    started = loop.time()
    end = started + 3
    await asyncio.gather(*map(host, passed))
    nominal = rate * (loop.time() - started) + rate
    total = sum(passed.values())
    assert 0.7 * nominal <= total <= nominal + 1, passed
    assert min(passed.values()) > total / 10, f"nobody starves: {passed}"


async def test_a_restart_between_two_messages_is_not_noticed(server: RedisServer) -> None:
    async with opened(server.url) as ledger:
        await ledger.reserve(CHARGES, 5, NOW)
        server.daemon.signal(signal.SIGTERM)
        server.daemon.wait()
        server.start()
        await asyncio.sleep(0)
        assert (await ledger.reserve(CHARGES, 1, NOW)).used == (6, 6)


async def test_a_server_that_stands_still_holds_nobody_up_and_counts_nothing_twice(
    server: RedisServer,
) -> None:
    async with opened(server.url) as ledger:
        reservation = await ledger.reserve(CHARGES, 5, NOW)
        server.daemon.signal(signal.SIGSTOP)
        try:
            assert await try_many(ledger, 20) == 0
            assert await try_many(ledger, 20) == 0
            assert await ledger.commit(reservation, 2, NOW) == ()
        finally:
            server.daemon.signal(signal.SIGCONT)
        # It carries out what it was asked meanwhile, and then what undoes it.
        await soon(lambda: used(ledger), 2)
        assert await try_many(ledger, 20) == 20
        assert await used(ledger) == 22


@pytest.mark.parametrize("what", ["swallows_questions", "swallows_answers"])
async def test_a_line_that_swallows_is_given_up_and_what_was_counted_is_given_back(
    server: RedisServer, what: str
) -> None:
    async with open_line(server.port) as line, opened(f"redis://{LOOPBACK}:{line.port}") as one:
        assert await try_many(one, 5) == 5
        setattr(line, what, True)
        assert await try_many(one, 10) == 0
        setattr(line, what, False)
        await soon(lambda: used(one), 5)
        assert await try_many(one, 5) == 5
        assert await used(one) == 10


async def test_a_slow_line_is_waited_for_and_a_very_slow_one_is_not(
    server: RedisServer,
) -> None:
    async with open_line(server.port) as line, opened(f"redis://{LOOPBACK}:{line.port}") as one:
        line.delay_s = TIMEOUT_S / 20
        assert await try_many(one, 50) == 50
        line.delay_s = TIMEOUT_S * 2
        assert await try_many(one, 10) == 0
        line.delay_s = 0
        await soon(lambda: used(one), 50)


async def test_a_server_that_forgot_the_scripts_gets_them_again(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        reservation = await ledger.reserve(CHARGES, 5, NOW)
        for _ in range(2):
            admin.script_flush()
            assert await try_many(ledger, 3) == 3
        admin.script_flush()
        await ledger.refund(reservation, NOW)
        assert await used(ledger) == 6


async def test_a_full_server_is_unavailable_until_it_has_room(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        assert await try_many(ledger, 3) == 3
        admin.config_set("maxmemory", "1")
        with pytest.raises(LedgerUnavailableError, match=r"OOM|maxmemory"):
            await ledger.reserve(CHARGES, 1, NOW)
        with pytest.raises(LedgerUnavailableError, match=r"OOM|maxmemory"):
            await ledger.probe()
        admin.config_set("maxmemory", "0")
        await ledger.probe()
        assert await try_many(ledger, 3) == 3
        assert await used(ledger) == 6


async def test_a_server_that_became_a_replica_is_unavailable(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        assert await try_many(ledger, 3) == 3
        admin.replicaof(LOOPBACK, "1")
        with pytest.raises(LedgerUnavailableError, match="read only replica"):
            await ledger.reserve(CHARGES, 1, NOW)
        with pytest.raises(LedgerUnavailableError, match="read only replica"):
            await ledger.probe()
        account, user = await ledger.limit_statuses(CHARGES, NOW)
        assert (account.left, user.used_24h) == (97, 3), "what only reads can be asked"
        admin.replicaof("NO", "ONE")
        assert await try_many(ledger, 3) == 3


async def test_a_node_of_a_cluster_is_refused_at_once_and_the_gate_does_not_start(
    lab: Lab, tmp_path: Path
) -> None:
    server = redis_server(lab, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with opened(server.url) as ledger:
        loop = asyncio.get_running_loop()
        for work in (ledger.probe(), ledger.reserve(CHARGES, 1, NOW)):
            started = loop.time()
            with pytest.raises(LedgerUnfitError, match="it is a node of a cluster"):
                await work
            assert loop.time() - started < TIMEOUT_S
    sections = f'[ledger]\nkind = "redis"\nurl = "{server.url}"'
    with pytest.raises(OpenError, match=r"^ledger: it is a node of a cluster; name one server"):
        async with open_gate(tmp_path, sections=sections):
            pass


async def test_a_node_of_a_cluster_that_does_not_say_what_it_is_shows_it_by_its_errors(
    lab: Lab, tmp_path: Path
) -> None:
    """Redis 5 has no HELLO."""
    settings = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server = redis_server(lab, *settings, "--rename-command", "HELLO", "RENAMED")
    async with opened(server.url) as ledger:
        with pytest.raises(LedgerUnfitError, match="it is a node of a cluster"):
            await ledger.reserve(CHARGES, 1, NOW)
    sections = f'[ledger]\nkind = "redis"\nurl = "{server.url}"'
    with pytest.raises(OpenError, match=r"^ledger: it is a node of a cluster"):
        async with open_gate(tmp_path, sections=sections):
            pass


@pytest.mark.parametrize(
    "error",
    [
        "MOVED 12182 127.0.0.1:7001",
        "ASK 12182 127.0.0.1:7001",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
    ],
)
async def test_an_error_that_only_a_node_of_a_cluster_has_is_not_waited_for(
    server: RedisServer, error: str
) -> None:
    link = Link(server.url, timeout_s=TIMEOUT_S)
    with pytest.raises(LedgerUnfitError, match="it is a node of a cluster"):
        await link.call(Script(f'return redis.error_reply("{error}")'), (), ())
    assert (await link.call(Script("return {1}"), (), ())).facts == [1]
    await link.close()


async def test_a_replica_without_its_primary_is_waited_for(server: RedisServer) -> None:
    link = Link(server.url, timeout_s=TIMEOUT_S)
    with pytest.raises(LedgerUnavailableError, match="Link with MASTER is down") as caught:
        await link.call(
            Script('return redis.error_reply("MASTERDOWN Link with MASTER is down")'), (), ()
        )
    assert not isinstance(caught.value, LedgerUnfitError)
    await link.close()


async def test_everything_that_is_kept_ends_by_itself(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        await ledger.reserve(CHARGES, 10, NOW)
        await ledger.commit(await ledger.reserve(CHARGES, 1, NOW), 1, NOW)
    left = {key.split(":")[3]: admin.ttl(key) for key in admin.scan_iter("*")}
    assert set(left) == {"account", "user", "open"}, "what is committed is no longer open"
    assert 900 <= left["open"] <= 960
    for kind in ("account", "user"):
        assert 48 * 3600 <= left[kind] <= 48 * 3600 + 120


async def test_the_password_and_tls_come_from_the_url(lab: Lab) -> None:
    authority = Authority(lab)
    certificate = authority.certificate("redis.example")
    server = redis_server(lab)
    tls_port = str(free_port())
    with Redis(LOOPBACK, server.port) as admin:
        admin.config_set("tls-cert-file", str(certificate.cert_file))
        admin.config_set("tls-key-file", str(certificate.key_file))
        admin.config_set("tls-ca-cert-file", str(authority.ca_file))
        admin.config_set("tls-auth-clients", "no")
        admin.config_set("tls-port", tls_port)
        admin.config_set("requirepass", "sesame")
    trusted = f"rediss://:sesame@{LOOPBACK}:{tls_port}/0?ssl_ca_certs={authority.ca_file}"
    async with opened(trusted) as ledger:
        assert await try_many(ledger, 3) == 3
    for url, problem in (
        (trusted.partition("?")[0], "certificate verify failed"),
        (f"redis://:wrong@{LOOPBACK}:{server.port}/0", "WRONGPASS|invalid username-password"),
        (f"redis://{LOOPBACK}:{server.port}/0", "unauthenticated"),
    ):
        async with opened(url) as ledger:
            with pytest.raises(LedgerUnavailableError, match=problem) as refusal:
                await ledger.reserve(CHARGES, 1, NOW)
            assert "sesame" not in str(refusal.value)


async def test_a_gate_counts_in_redis_and_refuses_when_it_is_gone(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "redis.url").write_text(f"{server.url}\n")
    (tmp_path / "redis.url").chmod(0o600)
    sections = '[ledger]\nkind = "redis"\nurl_file = "redis.url"\ntimeout_s = 2'
    async with open_gate(tmp_path, sections=sections) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        assert await used_24h(gate.ledger, SUBJECT, gate.clock.now()) == 1
        server.daemon.signal(signal.SIGKILL)
        server.daemon.wait()
        reply = await send(dialog)
        assert reply.startswith("451 4.3.0 Temporary service failure (ledger-unavailable; ")
        server.start()
        assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 2


async def test_a_restart_lets_nothing_pass_uncounted_also_where_that_is_allowed(
    server: RedisServer, tmp_path: Path
) -> None:
    sections = (
        f'[ledger]\nkind = "redis"\nurl = "{server.url}"\n[limits]\non_store_failure = "allow"'
    )
    async with open_gate(tmp_path, sections=sections) as (gate, sink):
        dialogs = [await login(gate) for _ in range(8)]
        is_over = False

        async def send_on(dialog: Dialog) -> None:
            while not is_over:
                assert (await send(dialog)).startswith("250")

        senders = [asyncio.ensure_future(send_on(dialog)) for dialog in dialogs]
        await asyncio.sleep(0.3)
        server.daemon.signal(signal.SIGTERM)
        await asyncio.to_thread(server.daemon.wait)
        await asyncio.sleep(1)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(0.3)
        is_over = True
        await asyncio.gather(*senders)
        assert "smtpgate_uncounted_total 0.0" in gate.metrics.render().decode()
        counted = await used_24h(gate.ledger, SUBJECT, gate.clock.now())
        assert counted == len(sink.messages) > len(dialogs)


async def test_over_a_line_that_is_cut_all_the_time_everything_is_counted_once(
    server: RedisServer,
) -> None:
    """After any loss on the way, the sum is the accepted number, and nothing stays open."""
    dice, accepted = random.Random(11), 0
    charges = [Charge(SUBJECT, SendingLimits(UNLIMITED, UNLIMITED))]
    loop = asyncio.get_running_loop()
    end = loop.time() + 4
    async with open_line(server.port) as line:
        ledger = RedisLedger(f"redis://{LOOPBACK}:{line.port}", timeout_s=0.7)

        async def sender() -> None:
            nonlocal accepted
            while loop.time() < end:
                recipients = dice.randint(1, 5)
                try:
                    one = await ledger.reserve(charges, recipients, NOW)
                except LedgerUnavailableError:
                    continue
                taken = dice.choice([recipients, dice.randint(0, recipients), 0])
                accepted += taken
                await ledger.commit(one, taken, NOW)
                await asyncio.sleep(dice.uniform(0, 0.02))

        async def trouble() -> None:
            while loop.time() < end:
                await asyncio.sleep(dice.uniform(0.01, 0.2))
                what = dice.choice(["cut", "cut", "swallows_questions", "swallows_answers"])
                if what == "cut":
                    line.cuts_after_question = True
                else:
                    setattr(line, what, True)
                    await asyncio.sleep(dice.uniform(0.01, 0.9))
                    setattr(line, what, False)

        await asyncio.gather(trouble(), *(sender() for _ in range(10)))
        line.cuts_after_question = False
        await soon(lambda: used(ledger), accepted)
        assert accepted > 10
        await ledger.close()
    with Redis.from_url(server.url, decode_responses=True) as admin:
        left = [key for key in admin.scan_iter("*:open:*") if admin.get(key) != "undone"]
    assert left == []


class SkewedClock(SystemClock):
    """The time of a host whose clock is wrong."""

    def __init__(self, skew_s: float) -> None:
        self._skew = timedelta(seconds=skew_s)

    def now(self) -> datetime:
        return super().now() + self._skew


async def test_two_gates_whose_clocks_are_three_minutes_apart_share_a_rate(
    server: RedisServer, tmp_path: Path
) -> None:
    rate = 20
    sections = f'[ledger]\nkind = "redis"\nurl = "{server.url}"'
    limits = 'name = "Delegate sender"\nmax_24h_send = 1000\nmax_send_rate_per_s = '
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        gates = []
        for name, skew_s in (("fast", 90), ("slow", -90)):
            (tmp_path / name).mkdir()
            opening = open_gate(
                tmp_path / name,
                replace=(f"{limits}1000", f"{limits}{rate}"),
                sections=sections,
                clock=SkewedClock(skew_s),
            )
            gates.append(await stack.enter_async_context(opening))
        end = loop.time() + 4

        async def send_on(gate: Gate) -> None:
            dialog = await login(gate)
            while loop.time() < end:
                assert (await send(dialog)).startswith("250")

        started = loop.time()
        await asyncio.gather(*(send_on(gate) for gate, _ in gates for _ in range(4)))
        took_s = loop.time() - started
        sent = [len(sink.messages) for _, sink in gates]
        assert 0.6 * rate * took_s < sum(sent) <= rate * (took_s + 1) + 1
        assert min(sent) > sum(sent) / 5, f"neither starves: {sent}"
        for gate, _ in gates:
            await gate.ledger_watch.look()
        (_, fast), (_, slow) = [gate.ledger_watch.state() for gate, _ in gates]
        assert "s behind this host's" in fast
        assert "s ahead of this host's" in slow
