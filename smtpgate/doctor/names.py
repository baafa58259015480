"""The check of the resolver, and of the gate's own name and address in the DNS."""

from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Final

from smtpgate.config.values import is_loopback
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.doctor.spf import IpAddress
from smtpgate.ports import ResolverError

_MAX_ADDRESSES: Final = 8


async def examine_names(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """Ask for the addresses of the gate's name, and for the names of these."""
    hostname = gate.config.hostname
    try:
        addresses = await gate.resolver.addresses(hostname)
    except ResolverError as error:
        yield found("resolver-fails", "dns", str(error))
        return
    if not addresses:
        yield found("hostname-unknown", f"gate.hostname {hostname}", "it has no address")
    for address in addresses[:_MAX_ADDRESSES]:
        if is_loopback(str(address)):
            continue
        async for finding in _backwards(gate, address):
            yield finding


async def _backwards(gate: ExaminedGate, address: IpAddress) -> AsyncIterator[DoctorFinding]:
    hostname = gate.config.hostname
    try:
        names = await gate.resolver.names(address)
    except ResolverError as error:
        yield found("reverse-differs", str(address), str(error))
        return
    if hostname.lower() not in names:
        shown = ", ".join(sorted(names)[:4]) or "no name"
        text = f"leads back to {shown}, and not to gate.hostname, {hostname}"
        yield found("reverse-differs", str(address), text)


async def outgoing_addresses(gate: ExaminedGate) -> tuple[list[IpAddress], bool]:
    """The addresses that upstreams send from, and whether that is known and no guess.

    Without ``outgoing`` they are those by which upstreams are reached: often the same host.
    """
    if gate.outgoing:
        return list(gate.outgoing), True
    guessed: list[IpAddress] = []
    for upstream in gate.config.upstreams:
        try:
            guessed.append(ip_address(upstream.host))
        except ValueError:
            try:
                guessed += await gate.resolver.addresses(upstream.host)
            except ResolverError:
                continue
    return [one for one in guessed if one.is_global][:_MAX_ADDRESSES], False
