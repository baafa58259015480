"""The bounds on what one account, or one address without a login, may have the API do.

Amazon SES allows about one management call a second. Tools such as Terraform make hundreds at
once and then none for days, so that an account has many calls at once here, and a rate in the
long run. Workers tell each other of each call, so the bounds are the host's: what two workers
take in the same moment may exceed them by that little.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from smtpgate.api.notes import CallCounted, KeyUsed
from smtpgate.config.sections import ApiConfig
from smtpgate.core.api.faults import ApiError
from smtpgate.core.events import BudgetExhausted
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.limits.token_buckets import TokenBuckets
from smtpgate.core.message.envelope import Client, network_of_client
from smtpgate.ports import Clock, EventSink

_CALLS: Final = "api-calls"
_NEW_KEYS: Final = "api-new-keys"
_FAILURES: Final = "api-auth-failures"
_MOST_KNOWN: Final = 10_000
_TEXT: Final = "Rate exceeded"


class CallBounds:
    """The bounds of one port of the API, as token buckets."""

    def __init__(
        self,
        config: ApiConfig,
        clock: Clock,
        events: EventSink,
        tell: Callable[[CallCounted | KeyUsed], None] | None,
    ) -> None:
        """``tell`` has the other workers take a note; there are none without it."""
        self._section = config.section
        self._clock = clock
        self._events = events
        self._tell = tell
        self._buckets: dict[BudgetName, TokenBuckets] = {
            _CALLS: TokenBuckets(config.max_calls, 60 / config.calls_per_minute),
            _NEW_KEYS: TokenBuckets(config.max_new_keys, 60 / config.new_keys_per_minute),
            _FAILURES: TokenBuckets(
                config.max_auth_failures, 60 / config.auth_failures_per_minute
            ),
        }
        # A client whose secret is wrong must not stop others behind the same address.
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def count_call(self, client: Client) -> None:
        """Count a call of an account. Raises ApiError if it has none left."""
        self._must_have(_CALLS, client.account_id, client)
        self._count(_CALLS, client.account_id)

    def count_new_keys(self, client: Client) -> None:
        """Count a call for which a domain's keys are made: some tenths of a second of a core.

        Raises ApiError if the account may have none made now.
        """
        self._must_have(_NEW_KEYS, client.account_id, client)
        self._count(_NEW_KEYS, client.account_id)

    def must_have_failures(self, client: Client, key_id: str) -> None:
        """Refuse a request if too many from its address had no valid signature.

        Those by an access key that was used from there are counted by themselves. Raises
        ApiError.
        """
        self._must_have(_FAILURES, self._failing(client, key_id), client)

    def count_failure(self, client: Client, key_id: str, *, is_unknown: bool) -> None:
        """Count a request without a valid signature, by that key as it says."""
        if is_unknown:
            _ = self._known.pop((network_of_client(client.address), key_id), None)
        self._count(_FAILURES, self._failing(client, key_id))

    def note_success(self, client: Client, key_id: str) -> None:
        """A request from that address was signed with that key."""
        network = network_of_client(client.address)
        if (network, key_id) not in self._known:
            note = KeyUsed(self._section, network, key_id)
            self.take(note)
            if self._tell is not None:
                self._tell(note)

    def exhausted(self, budget: BudgetName, client: Client) -> ApiError:
        """The fault of a call that a bound refuses, after an event of it."""
        self._events.publish(BudgetExhausted(client, self._clock.now(), budget))
        return ApiError("throttled", _TEXT)

    def take(self, note: CallCounted | KeyUsed) -> None:
        """Take a note; those of other ports are not meant."""
        if note.section != self._section:
            return
        if isinstance(note, CallCounted):
            _ = self._buckets[note.budget].take(note.key, self._clock.monotonic())
            return
        self._known[note.network, note.key_id] = None
        if len(self._known) > _MOST_KNOWN:
            _ = self._known.popitem(last=False)

    # -- inside --------------------------------------------------------------------------------

    def _failing(self, client: Client, key_id: str) -> str:
        network = network_of_client(client.address)
        return f"{network} {key_id}" if (network, key_id) in self._known else network

    def _must_have(self, budget: BudgetName, key: str, client: Client) -> None:
        if not self._buckets[budget].has_any(key, self._clock.monotonic()):
            raise self.exhausted(budget, client)

    def _count(self, budget: BudgetName, key: str) -> None:
        note = CallCounted(self._section, budget, key)
        self.take(note)
        if self._tell is not None:
            self._tell(note)
