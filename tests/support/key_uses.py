"""Ordinary senders, and leaked keys: the uses of an access key over weeks, as observations.

Each kind of sender is a function of a chance and a day; what it gives are messages with their
hour. The same seed gives the same weeks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from smtpgate.core.watch.profile import Observation
from smtpgate.core.watch.sketch import hash_of

# Monday 2026-11-02, as days since 1970.
MONDAY: Final = 20_759
SITE: Final = "192.0.2.0/24"
ELSEWHERE: Final = "203.0.113.0/24"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A message, or some like it."""

    hour: int
    network: str = SITE
    author: str = "shop@example.com"
    to: Sequence[str] = ()
    refused: bool = False
    bounced: int = 0

    def observed(self) -> Observation:
        """The observation of it."""
        return Observation(
            hour=self.hour,
            network=self.network,
            authors=(self.author,),
            messages=1,
            recipients=0 if self.refused else len(self.to),
            addresses=() if self.refused else tuple(map(hash_of, self.to)),
            refused=int(self.refused),
            bounced=self.bounced,
        )


Sender = Callable[[Random, int], Iterable[Use]]
"""The uses of a day."""


def _people(chance: Random, among: int, number: int, of: str = "customer") -> list[str]:
    """Some people: some are written to much more often than others."""
    return [
        f"{of}{int(among * chance.random() ** 3)}@example.net" for _ in range(max(0, number))
    ]


def is_weekend(day: int) -> bool:
    """True for Saturdays and Sundays."""
    return (day - MONDAY) % 7 >= 5


def business(chance: Random, day: int) -> Iterator[Use]:
    """Ten employees who write to customers on weekdays, and now and then to new ones."""
    if is_weekend(day):
        return
    for hour in range(7, 18):
        for employee in range(10):
            if chance.random() < 0.5:
                to = _people(chance, 300 + 4 * (day - MONDAY), chance.choice((1, 1, 1, 2, 4)))
                yield Use(
                    hour=day * 24 + hour,
                    author=f"employee{employee}@example.com",
                    to=to,
                    bounced=int(chance.random() < 0.01),
                    refused=chance.random() < 0.005,
                )


def newsletter(chance: Random, day: int) -> Iterator[Use]:
    """Each night to all readers, who are more each day."""
    readers = 2_000 + 15 * (day - MONDAY)
    for start in range(0, readers, 50):
        yield Use(
            hour=day * 24 + (1 if start < readers // 2 else 2),
            author="news@example.com",
            to=[f"reader{one}@example.org" for one in range(start, min(start + 50, readers))],
            bounced=int(chance.random() < 0.2),
        )


def transactional(chance: Random, day: int) -> Iterator[Use]:
    """Order confirmations by the hour of the day; most recipients are new."""
    for hour in range(24):
        usual = 2 + 14 * (hour if hour < 14 else 24 - hour) / 14
        for _ in range(max(0, round(chance.gauss(usual, usual**0.5)))):
            yield Use(
                hour=day * 24 + hour,
                author="orders@example.com",
                to=[f"buyer{chance.randrange(10**9)}@example.net"],
                bounced=int(chance.random() < 0.03),
            )


def with_new_employee(chance: Random, day: int) -> Iterator[Use]:
    """A company that gets a new employee, who writes to many; sometimes from home."""
    yield from business(chance, day)
    if day < MONDAY + 21 or is_weekend(day):
        return
    for hour in (9, 11, 15):
        network = "198.51.100.0/24" if chance.random() < 0.2 else SITE
        yield Use(
            hour=day * 24 + hour,
            author="beginner@example.com",
            network=network,
            to=_people(chance, 400, 3, "contact"),
        )


def with_moved_site(chance: Random, day: int) -> Iterator[Use]:
    """A company whose network changes once."""
    for one in business(chance, day):
        yield replace(one, network="198.51.100.0/24") if day >= MONDAY + 24 else one


def with_holidays(chance: Random, day: int) -> Iterator[Use]:
    """A company that is closed for two weeks."""
    return iter(()) if 21 <= day - MONDAY < 35 else business(chance, day)


def with_campaign(chance: Random, day: int) -> Iterator[Use]:
    """A campaign each Tuesday, once to twice as many."""
    if (day - MONDAY) % 7 != 1:
        return
    number = 8_000 if day == MONDAY + 29 else 4_000
    for start in range(0, number, 50):
        yield Use(
            hour=day * 24 + 10,
            author="offers@example.com",
            to=[f"member{one}@example.org" for one in range(start, start + 50)],
        )


def travelling(chance: Random, day: int) -> Iterator[Use]:
    """One person with a telephone, who is in another network every other day."""
    for hour in range(8, 21):
        if chance.random() < 0.4:
            yield Use(
                hour=day * 24 + hour,
                author="owner@example.com",
                network=f"10.{chance.randrange(4)}.{chance.randrange(60)}.0/24",
                to=_people(chance, 80, 1),
            )


def dialled_in(chance: Random, day: int) -> Iterator[Use]:
    """A small company whose provider gives it another address each week."""
    for one in business(chance, day):
        yield replace(one, network=f"10.9.{(day - MONDAY) // 7}.0/24")


def growing(chance: Random, day: int) -> Iterator[Use]:
    """A young shop that sends a little more each day."""
    for _ in range(3 + 2 * (day - MONDAY)):
        yield Use(
            hour=day * 24 + chance.randrange(8, 22),
            author="shop@example.com",
            to=[f"buyer{chance.randrange(10**9)}@example.net"],
        )


def company(chance: Random, day: int) -> Iterator[Use]:
    """A mail server with 300 mailboxes behind one key."""
    for hour in range(6, 21):
        for _ in range(4 if is_weekend(day) else 25):
            yield Use(
                hour=day * 24 + hour,
                author=f"mailbox{int(300 * chance.random() ** 2)}@example.com",
                to=_people(chance, 5000, chance.choice((1, 1, 2, 5)), "partner"),
                bounced=int(chance.random() < 0.02),
                refused=chance.random() < 0.002,
            )


ORDINARY: Final[dict[str, Sender]] = {
    "business": business,
    "newsletter": newsletter,
    "transactional": transactional,
    "new employee": with_new_employee,
    "moved site": with_moved_site,
    "holidays": with_holidays,
    "campaign": with_campaign,
    "travelling": travelling,
    "dialled in": dialled_in,
    "growing": growing,
    "company": company,
}


def weeks_of(sender: Sender, seed: int, number: int) -> Iterator[Use]:
    """The uses of so many weeks, in order."""
    chance = Random(f"{seed}")
    for day in range(MONDAY, MONDAY + 7 * number):
        yield from sorted(sender(chance, day), key=lambda use: use.hour)


# -- leaked keys -----------------------------------------------------------------------------


def _victims(chance: Random, number: int) -> list[str]:
    return [f"victim{chance.randrange(10**9)}@example.org" for _ in range(number)]


def from_elsewhere(chance: Random, hour: int) -> Iterator[Use]:
    """From another network with other From addresses, one after the other."""
    for number in range(2_000):
        author = f"billing{number}@example.com"
        yield Use(hour=hour, network=ELSEWHERE, author=author, to=_victims(chance, 1))


def from_elsewhere_alike(chance: Random, hour: int, author: str) -> Iterator[Use]:
    """From another network, with the From address that the key has always used."""
    for _ in range(2_000):
        yield Use(hour=hour, network=ELSEWHERE, author=author, to=_victims(chance, 1))


def slow_alike(chance: Random, hour: int) -> Iterator[Use]:
    """From the same network, ten messages an hour under other names, day and night."""
    for number in range(240):
        author = f"support{number % 40}@example.com"
        yield Use(hour=hour + number // 10, author=author, to=_victims(chance, 1))


def burst_alike(chance: Random, hour: int, author: str) -> Iterator[Use]:
    """From the same network under the same name, as much as it can."""
    for _ in range(2_000):
        yield Use(hour=hour, author=author, to=_victims(chance, 25))


def refused_attempts(_chance: Random, hour: int) -> Iterator[Use]:
    """Attempts to send under names that no policy allows."""
    for number in range(500):
        yield Use(hour=hour, author=f"ceo@{number}.example.org", to=(), refused=True)
