"""The checks of identities in the DNS: DKIM records, SPF and DMARC, as receivers see them."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import chain
from typing import Final

from smtpgate.admin.dns_checks import key_check
from smtpgate.core.address import domain_of
from smtpgate.core.proof.dkim_record import dkim_name
from smtpgate.core.proof.dkim_stages import KeyStage
from smtpgate.core.proof.registered import Registered, RegisteredKey
from smtpgate.directory.dkim import DkimKeyRow, dkim_key_page
from smtpgate.directory.identities import IdentityRow, identity_page
from smtpgate.directory.mail_from import mail_from_of
from smtpgate.directory.registered_identities import registered
from smtpgate.directory.store import DirectoryStore
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.dmarc import dmarc_of
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.doctor.names import outgoing_addresses
from smtpgate.doctor.spf import IpAddress, SpfVerdict, spf_verdict
from smtpgate.ports import ResolverError

_MAX_IDENTITIES: Final = 500
_AT_ONCE: Final = 16
_SIGNS: Final[KeyStage] = "active"
_DKIM: Final[Mapping[str, str]] = {
    "absent": "dkim-absent",
    "revoked": "dkim-absent",
    "differs": "dkim-differs",
    "several": "dkim-differs",
    "unanswered": "dkim-unanswered",
}
_SPF: Final[Mapping[str, str]] = {
    "none": "spf-absent",
    "permerror": "spf-invalid",
    "fail": "spf-not-authorized",
    "softfail": "spf-not-authorized",
    "neutral": "spf-not-authorized",
    "temperror": "spf-unanswered",
    "unknown": "spf-not-checked",
}
# These are so for any address, so a guess of the address is enough.
_FOR_ALL: Final = frozenset({"none", "permerror", "temperror"})
# RFC 5737's; it is in nobody's record.
_NOBODY: Final = IPv4Address("192.0.2.1")


@dataclass(frozen=True, slots=True)
class _Looked:
    """An identity, and the domain of the key that signs its mail, or ``None``."""

    identity: Registered
    signed_by: str | None

    @property
    def shown(self) -> str:
        return f"identity {self.identity.account_id}/{self.identity.name}"

    @property
    def domain(self) -> str:
        name = self.identity.name
        return domain_of(name) if "@" in name else name

    @property
    def mail_from(self) -> str:
        """The domain of the return path of its mail, by default the identity's."""
        chosen = self.identity.mail_from
        return self.domain if chosen is None else chosen.domain


async def examine_identities(
    gate: ExaminedGate, store: DirectoryStore
) -> AsyncIterator[DoctorFinding]:
    """Ask the DNS about each verified identity, several at once."""
    looked, is_all = await _read(gate, store)
    if not is_all:
        text = f"only the first {_MAX_IDENTITIES} identities were looked at"
        yield found("identities-not-all", "directory", text)
    outgoing, is_known = await outgoing_addresses(gate)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def all_of(one: _Looked) -> list[DoctorFinding]:
        async with turns:
            parts = await asyncio.gather(
                _about_keys(gate, one),
                _about_spf(gate, one, outgoing, is_known=is_known),
                _about_dmarc(gate, one),
            )
        return [*_about_state(one), *chain.from_iterable(parts)]

    seen: set[tuple[str, str, str]] = set()
    for coming in asyncio.as_completed([all_of(one) for one in looked]):
        for finding in await coming:
            # Several identities may share a domain; its SPF record is one thing to correct.
            key = (finding.kind, finding.subject, finding.problem)
            if key not in seen:
                seen.add(key)
                yield finding


async def _read(gate: ExaminedGate, store: DirectoryStore) -> tuple[list[_Looked], bool]:
    """The verified identities to look at, and whether these are all."""
    found_rows: list[tuple[IdentityRow, Registered]] = []
    keys: dict[str, Sequence[DkimKeyRow]] = {}
    region = store.region
    async with store.reading() as connection:
        rows: list[IdentityRow] = []
        for name in gate.identities:
            rows += await identity_page(connection, region, name=name, state="success")
        if not gate.identities:
            rows = await identity_page(
                connection, region, state="success", limit=_MAX_IDENTITIES + 1
            )
        for row in rows[:_MAX_IDENTITIES]:
            if row.account_id not in keys:
                keys[row.account_id] = await dkim_key_page(
                    connection, region, account_id=row.account_id
                )
            own = [one for one in keys[row.account_id] if one.domain == row.name]
            mail_from = await mail_from_of(connection, row.account_id, region, row.name)
            found_rows.append((row, registered(row, own, store.partition, mail_from)))
    return [
        _Looked(identity, _signed_by(row.domain, keys[row.account_id]))
        for row, identity in found_rows
    ], len(rows) <= _MAX_IDENTITIES


def _signed_by(domain: str, keys: Iterable[DkimKeyRow]) -> str | None:
    """The nearest domain, the identity's or one above it, that has a key which signs."""
    signing = {one.domain for one in keys if one.stage == _SIGNS}
    labels = domain.split(".")
    for at in range(len(labels) - 1):
        if (name := ".".join(labels[at:])) in signing:
            return name
    return None


def _about_state(one: _Looked) -> Iterator[DoctorFinding]:
    """The states that the gate's own checks have found."""
    verification, mail_from = one.identity.verification, one.identity.mail_from
    if (since := verification.missing_since) is not None:
        text = f"since {since:%Y-%m-%d %H:%M} UTC: {verification.problem}"
        yield found("identity-missing", one.shown, text)
    if mail_from is None:
        return
    proof = mail_from.verification
    if proof.state != "success" or proof.missing_since is not None:
        text = proof.problem or f"its MX record was not found yet (state {proof.state})"
        yield found("mail-from-unproved", mail_from.domain, text)


async def _about_keys(gate: ExaminedGate, one: _Looked) -> list[DoctorFinding]:
    if one.signed_by is None:
        return [found("dkim-none", one.shown, "no active DKIM key signs its mail")]
    signing = [key for key in one.identity.keys if key.staged.signs]
    found_of_each = await asyncio.gather(
        *(_about_key(gate, one.identity, key) for key in signing)
    )
    return [*chain.from_iterable(found_of_each)]


async def _about_key(
    gate: ExaminedGate, identity: Registered, key: RegisteredKey
) -> list[DoctorFinding]:
    check = await key_check(identity, key, gate.resolver)
    if check.kind == "matches":
        return []
    name = dkim_name(key.staged.selector, identity.name)
    return [found(_DKIM[check.kind], name, check.text)]


async def _about_spf(
    gate: ExaminedGate, one: _Looked, outgoing: Sequence[IpAddress], *, is_known: bool
) -> list[DoctorFinding]:
    domain = one.mail_from
    addresses = list(outgoing) or [_NOBODY]
    verdicts = await asyncio.gather(
        *(spf_verdict(address, domain, gate.resolver) for address in addresses)
    )
    for_all = [verdict for verdict in verdicts if verdict.result in _FOR_ALL]
    if for_all:
        return [_spf_finding(domain, for_all[0])]
    if is_known:
        return [
            _spf_finding(f"{domain} from {address}", verdict)
            for address, verdict in zip(addresses, verdicts, strict=True)
            if verdict.result != "pass"
        ]
    if outgoing and any(verdict.result == "pass" for verdict in verdicts):
        return []
    return [found("spf-not-checked", domain, "the upstream's outgoing addresses are not known")]


def _spf_finding(subject: str, verdict: SpfVerdict) -> DoctorFinding:
    return found(_SPF[verdict.result], subject, f"{verdict.result}: {verdict.why}")


async def _about_dmarc(gate: ExaminedGate, one: _Looked) -> list[DoctorFinding]:
    domain = one.domain
    try:
        record = await dmarc_of(domain, gate.resolver)
    except ResolverError as error:
        return [found("dmarc-unanswered", domain, str(error))]
    if record is None:
        return [found("dmarc-absent", domain, "neither it nor a domain above it has a record")]
    if record.problem:
        return [found("dmarc-invalid", f"_dmarc.{record.domain}", record.problem)]
    if record.is_strict and one.signed_by not in (None, domain):
        text = f"{one.signed_by} signs its mail, and _dmarc.{record.domain} has adkim=s"
        return [found("dmarc-not-aligned", domain, text)]
    return []
