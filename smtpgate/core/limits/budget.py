"""The bounds on a session, in one table: the cost that one client may cause.

When a client reaches a bound, there is one ``BudgetExhausted`` event with the bound's name. The
log and the metrics read it. A new bound is a row here, a configuration key, and the line of
code that spends it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

BudgetName = Literal[
    "descriptors",
    "connections",
    "connections-per-client",
    "banned",
    "handshake-time",
    "auth-time",
    "input-before-auth",
    "auth-failures",
    "command-time",
    "reply-time",
    "errors",
    "junk-commands",
    "recipients",
    "excess-recipients",
    "message-time",
    "message-octets",
    "inflight-octets",
    "inflight-share",
    "spooled-octets",
    "storage",
    "refusals",
    "upstream-line",
    "api-auth-failures",
    "api-calls",
    "api-new-keys",
]
Phase = Literal["connecting", "before AUTH", "always", "after AUTH"]


@dataclass(frozen=True, slots=True)
class Budget:
    """One bound: its phase of the session, its configuration key, its reply and its meaning.

    ``reply`` is a name in the catalogue of replies. Without one the connection is closed
    without a reply, because the client could not read it; calls of the API get the fault
    ``throttled``.
    """

    phase: Phase
    key: str
    reply: str
    meaning: str


BUDGETS: Final[Mapping[BudgetName, Budget]] = {
    "descriptors": Budget(
        "connecting",
        "gate.reserved_descriptors",
        "too-many-connections",
        "Connections of all listeners together: the limit of open files less this reserve.",
    ),
    "connections": Budget(
        "connecting",
        "listener.NAME.max_connections",
        "too-many-connections",
        "Connections of a listener, counted from accept until the socket is closed.",
    ),
    "connections-per-client": Budget(
        "connecting",
        "listener.NAME.max_connections_per_client",
        "too-many-connections",
        "The same for one client address, or one /64 network of IPv6 addresses.",
    ),
    "banned": Budget(
        "connecting",
        "bans.max_failures",
        "banned",
        "Failed logins, and sessions that end for their errors, of one client address or one "
        "/64 network of IPv6 addresses in `bans.window_s`. Then it is banned: for "
        "`bans.first_s`, each time twice as long, at most `bans.longest_s`.",
    ),
    "handshake-time": Budget(
        "connecting",
        "listener.NAME.handshake_timeout_s",
        "",
        "Time for a PROXY header and implicit TLS together, or for STARTTLS.",
    ),
    "auth-time": Budget(
        "before AUTH",
        "listener.NAME.auth_timeout_s",
        "auth-timeout",
        "Time from the greeting to a successful login, whatever the client sends.",
    ),
    "input-before-auth": Budget(
        "before AUTH",
        "listener.NAME.max_octets_before_auth",
        "too-much-input",
        "Octets that a client sends before it has logged in.",
    ),
    "auth-failures": Budget(
        "before AUTH",
        "listener.NAME.max_auth_failures",
        "too-many-errors",
        "Failed logins of a session.",
    ),
    "command-time": Budget(
        "always",
        "listener.NAME.command_timeout_s",
        "idle",
        "Time for a complete command line.",
    ),
    "reply-time": Budget(
        "always",
        "listener.NAME.reply_timeout_s",
        "",
        "Time for a client to read waiting replies. At most `listener.NAME.max_unread_octets` "
        "wait; meanwhile no command is read.",
    ),
    "errors": Budget(
        "always",
        "listener.NAME.max_errors",
        "too-many-errors",
        "Commands that are refused. Restarts after an accepted message.",
    ),
    "junk-commands": Budget(
        "always",
        "listener.NAME.max_junk_commands",
        "too-many-errors",
        "Commands without use for a message: NOOP, RSET, VRFY, HELP, HELO, EHLO, empty chunks, "
        "and RCPT with a recipient that the message already has. Further ones count as errors. "
        "Restarts after an accepted message.",
    ),
    "recipients": Budget(
        "after AUTH",
        "gate.max_recipients",
        "too-many-recipients",
        "Recipients of a message.",
    ),
    "excess-recipients": Budget(
        "after AUTH",
        "listener.NAME.max_excess_recipients",
        "too-many-errors",
        "RCPT commands beyond `gate.max_recipients`. Further ones count as errors. Restarts "
        "after an accepted message.",
    ),
    "message-time": Budget(
        "after AUTH",
        "listener.NAME.data_timeout_s",
        "idle",
        "Time for a whole message, from DATA to the final dot, or from the first BDAT to the "
        "last octet.",
    ),
    "message-octets": Budget(
        "after AUTH",
        "gate.max_message_octets",
        "too-long",
        "Octets of a message, as declared by MAIL or as received.",
    ),
    "inflight-octets": Budget(
        "after AUTH",
        "gate.max_inflight_octets",
        "overloaded",
        "Octets in memory of all messages in flight.",
    ),
    "inflight-share": Budget(
        "after AUTH",
        "gate.max_inflight_share",
        "overloaded",
        "The octets in memory, or in files, of one account: a share of what the other accounts "
        "leave free.",
    ),
    "spooled-octets": Budget(
        "after AUTH",
        "gate.max_spooled_octets",
        "overloaded",
        "Octets in files of all messages in flight that are larger than "
        "`message.spool_octets`; as many files as half of `gate.reserved_descriptors`.",
    ),
    "storage": Budget(
        "after AUTH",
        "gate.state_dir",
        "no-storage",
        "The disk: a large message cannot be written to its file, because the disk is full or "
        "the folder cannot be used. MAIL gets the reply when its SIZE is more than two thirds "
        "of the disk's free room. The log has the reason.",
    ),
    "refusals": Budget(
        "after AUTH",
        "limits.max_refusals",
        "too-many-refusals",
        "Messages of an account that the gate itself refuses permanently, or because there is "
        "no DKIM key; `limits.refusals_per_minute` are given back. When half is used, the "
        "reply to each further one takes `limits.refusal_delay_s`; when all is used, MAIL "
        "gets 421.",
    ),
    "upstream-line": Budget(
        "after AUTH",
        "upstream.NAME.max_waiting_per_account",
        "upstream-busy",
        "Messages of an account that wait for a connection to the upstream.",
    ),
    "api-auth-failures": Budget(
        "before AUTH",
        "api.NAME.max_auth_failures",
        "",
        "Requests without a valid signature of one client address, or one /64 network of IPv6 "
        "addresses; `api.NAME.auth_failures_per_minute` are given back. Requests by an access "
        "key that was used from there are counted by themselves.",
    ),
    "api-calls": Budget(
        "after AUTH",
        "api.NAME.max_calls",
        "",
        "Calls of an account that send no message; `api.NAME.calls_per_minute` are given back.",
    ),
    "api-new-keys": Budget(
        "after AUTH",
        "api.NAME.max_new_keys",
        "",
        "Calls of an account for which a domain's keys are made; "
        "`api.NAME.new_keys_per_minute` are given back.",
    ),
}
