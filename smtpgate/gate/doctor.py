"""``smtpgate doctor``: the table of its checks, and one run of them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.config import Config, ConfigError, load_config
from smtpgate.config.toml import reason
from smtpgate.doctor.case import CheckReport, DoctorCheck, ExaminedGate, run_checks
from smtpgate.doctor.finding import found
from smtpgate.doctor.names import examine_names
from smtpgate.doctor.spf import IpAddress
from smtpgate.gate.examined_host import (
    examine_configuration,
    examine_disk,
    examine_limits,
    examine_rights,
    examine_served,
)
from smtpgate.gate.examined_stores import (
    examine_clock,
    examine_directory,
    examine_journal,
    examine_ledger,
    examine_quotas,
    examine_registered,
)
from smtpgate.gate.examined_upstreams import examine_upstreams
from smtpgate.gate.resolver import new_resolver
from smtpgate.ports import Clock

_QUICK_S: Final = 10.0
_REMOTE_S: Final = 30.0
_LONG_S: Final = 120.0

CHECKS: Final = (
    DoctorCheck(
        "configuration",
        "keys that are allowed but unwise, and the folder of the log",
        _QUICK_S,
        examine_configuration,
    ),
    DoctorCheck(
        "rights",
        "the state folder, its owner, and files with secrets",
        _QUICK_S,
        examine_rights,
    ),
    DoctorCheck("disk", "free space for the databases", _QUICK_S, examine_disk),
    DoctorCheck("limits", "the limit of open files", _QUICK_S, examine_limits),
    DoctorCheck(
        "clock", "this clock beside those of Redis and PostgreSQL", _QUICK_S, examine_clock
    ),
    DoctorCheck(
        "dns", "the resolver, the gate's name and its addresses", _REMOTE_S, examine_names
    ),
    DoctorCheck(
        "ports",
        "each listener, API port and the feedback listener as a client sees it: TLS, "
        "certificate, name, login",
        _REMOTE_S,
        examine_served,
    ),
    DoctorCheck(
        "upstreams",
        "each upstream: name, connection, TLS, login, NOOP, size, time",
        _LONG_S,
        examine_upstreams,
    ),
    DoctorCheck(
        "directory",
        "the database, its tables, the master key, documents",
        _REMOTE_S,
        examine_directory,
    ),
    DoctorCheck("ledger", "the store of sending limits", _REMOTE_S, examine_ledger),
    DoctorCheck("quotas", "accounts near their 24-hour quota", _REMOTE_S, examine_quotas),
    DoctorCheck(
        "journal",
        "the database, its tables and key; events and reports that were given up or are late",
        _REMOTE_S,
        examine_journal,
    ),
    DoctorCheck(
        "identities",
        "DKIM records of active keys, SPF of the MAIL FROM domain, DMARC",
        _LONG_S,
        examine_registered,
    ),
)
CHECK_NAMES: Final = tuple(check.name for check in CHECKS)


async def examine(
    file: Path,
    *,
    only: Collection[str] = (),
    outgoing: Sequence[IpAddress] = (),
    identities: Sequence[str] = (),
    test_to: str = "",
) -> list[CheckReport]:
    """Run the checks, or some of them, for the gate of that configuration.

    A configuration that cannot be used is the only finding then.
    """
    try:
        config = load_config(file)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
    except OSError as error:
        problems = [f"{file}: {reason(error)}"]
    else:
        return await examine_gate(
            config,
            SystemClock(),
            only=only,
            outgoing=outgoing,
            identities=identities,
            test_to=test_to,
        )
    report = CheckReport("configuration")
    report.findings = [found("config-invalid", "configuration", one) for one in problems]
    return [report]


async def examine_gate(
    config: Config,
    clock: Clock,
    *,
    only: Collection[str] = (),
    outgoing: Sequence[IpAddress] = (),
    identities: Sequence[str] = (),
    test_to: str = "",
) -> list[CheckReport]:
    """Run the checks, or some of them, for a configuration that was read."""
    gate = ExaminedGate(
        config=config,
        clock=clock,
        resolver=new_resolver(config),
        outgoing=outgoing,
        identities=identities,
        test_to=test_to,
    )
    return await run_checks(gate, [one for one in CHECKS if not only or one.name in only])
