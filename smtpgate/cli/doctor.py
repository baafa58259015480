"""``smtpgate doctor``: the checks of a gate and all that it needs, printed."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import Annotated, Any, Final, TypeAlias, cast, get_args

import typer

from smtpgate.cli.listing import print_json, shown
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, one_of, option, output
from smtpgate.core.address import AddressError, parse_mailbox
from smtpgate.core.wording import numbered
from smtpgate.doctor.case import CheckReport
from smtpgate.doctor.finding import KINDS, DoctorFinding, Level
from smtpgate.doctor.spf import IpAddress
from smtpgate.gate.doctor import CHECK_NAMES, examine

_LEVELS: Final[tuple[Level, ...]] = get_args(Level)


def _check_name(text: str) -> str:
    if text not in CHECK_NAMES:
        raise ValueError(f"there is no check `{text}'; there are {one_of(CHECK_NAMES)}")
    return text


def _mailbox(text: str) -> str:
    try:
        return str(parse_mailbox(text))
    except AddressError as error:
        raise ValueError(f"`{text}' is no address: {error}") from None


_Only: TypeAlias = Annotated[
    list[Any] | None,
    option(
        metavar="CHECK", help="Run this check alone; as often as needed.", parse=_check_name
    ),
]
_Address: TypeAlias = Annotated[
    list[Any] | None,
    option(
        metavar="ADDRESS",
        help="An address that the upstream sends from, for SPF; as often as needed.",
        parse=ip_address,
    ),
]
_Identity: TypeAlias = Annotated[
    list[str] | None,
    option(metavar="NAME", help="Look at this identity alone; as often as needed."),
]
_SendTest: TypeAlias = Annotated[
    str | None,
    option(
        metavar="MAILBOX",
        help="Send a test message to this mailbox, by each upstream.",
        parse=_mailbox,
    ),
]


def doctor(
    only: _Only = None,
    address: _Address = None,
    identity: _Identity = None,
    send_test: _SendTest = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Examine the gate and all that it needs, and say what is wrong and what to do.

    Works beside a running gate and without one, and changes nothing; mail is sent only with
    --send-test. The exit status is 1 if there is an error.
    """
    reports = asyncio.run(
        examine(
            config,
            only=only or (),
            outgoing=cast("Sequence[IpAddress]", address or ()),
            identities=[one.lower() for one in identity or ()],
            test_to=send_test or "",
        )
    )
    findings = [finding for report in reports for finding in report.findings]
    findings.sort(key=lambda finding: _LEVELS.index(finding.row.level))
    if json:
        print_json(
            {
                "findings": [_fields(finding) for finding in findings],
                "checks": [_check_fields(report) for report in reports],
            }
        )
    else:
        for line in _lines(reports, findings):
            output.print(line)
    if any(finding.row.level == "error" for finding in findings):
        raise typer.Exit(1)


def _fields(finding: DoctorFinding) -> Mapping[str, str]:
    row = finding.row
    return {
        "level": row.level,
        "kind": finding.kind,
        "subject": finding.subject,
        "problem": finding.problem,
        "why": row.why,
        "cure": row.cure,
    }


def _check_fields(report: CheckReport) -> Mapping[str, object]:
    return {
        "check": report.name,
        "findings": len(report.findings),
        "seconds": round(report.took_s, 3),
    }


def _lines(reports: Sequence[CheckReport], findings: Sequence[DoctorFinding]) -> Iterator[str]:
    for kind, alike in groupby(findings, key=lambda finding: finding.kind):
        row = KINDS[kind]
        for finding in alike:
            yield shown(f"{row.level}: {finding.subject}: {finding.problem} ({kind})")
        yield shown(f"  why: {row.why}")
        yield shown(f"  do:  {row.cure}")
    counts = (
        numbered(sum(one.row.level == level for one in findings), f"{level}s")
        for level in _LEVELS
    )
    yield f"{numbered(len(reports), 'checks')}: {', '.join(counts)}"
