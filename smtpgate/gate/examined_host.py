"""Checks of the doctor on this machine: configuration, rights, disk, limits of the system."""

import os
import pwd
import shutil
import ssl
import stat
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from smtpgate.config import Config
from smtpgate.config.tls_port import TlsPort
from smtpgate.config.toml import reason
from smtpgate.core.wording import numbered
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.doctor.served import Files, FilesOfPort, examine_ports
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.errors import OpenError
from smtpgate.gate.listen import shortage_of_files
from smtpgate.gate.state_dir import StateDirError, look_at_state_dir, shortage_of_space
from smtpgate.gate.user_rights import UserByModes
from smtpgate.probes.port import ServedCertificate, certificate_of

_OPEN_TO_ALL: Final = "can be read by every user"
_FULL_OCTETS: Final = 67_108_864
_SHORT_OCTETS: Final = 1_073_741_824
_END: Final = b"-----END CERTIFICATE-----"


async def examine_configuration(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The warnings of the configuration, which was read without errors."""
    for warning in gate.config.warnings:
        if _OPEN_TO_ALL not in warning:
            key, _, problem = warning.partition(": ")
            yield found("config-unwise", key if problem else "configuration", problem or key)
    target = gate.config.log.target
    if isinstance(target, Path) and not target.parent.is_dir():
        yield found("log-folder-missing", "log.target", f"there is no folder {target.parent}")


async def examine_rights(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The state folder, and the files with secrets that the configuration names."""
    for warning in gate.config.warnings:
        if _OPEN_TO_ALL in warning:
            yield found("key-open", warning.partition(" can be ")[0], _OPEN_TO_ALL)
    folder, key_file = gate.config.gate.state_dir, gate.config.directory.master_key_file
    if _is_open(key_file, stat.S_IROTH):
        yield found("key-open", str(key_file), _OPEN_TO_ALL)
    for finding in _unreadable(gate.config):
        yield finding
    try:
        for warning in look_at_state_dir(folder):
            kind = "state-of-others" if "belongs to" in warning else "state-unusable"
            yield found(kind, "gate.state_dir", warning.removeprefix("gate.state_dir: "))
    except StateDirError as error:
        text = str(error).removeprefix("gate.state_dir: ")
        yield found("state-unusable", "gate.state_dir", text)
    except PermissionError as error:
        yield found("state-unusable", "gate.state_dir", f"{error.filename}: {reason(error)}")
    if folder.is_dir() and _is_open(folder, stat.S_IRWXO):
        yield found("state-open", "gate.state_dir", f"{folder} is open to every user")


def _unreadable(config: Config) -> Iterator[DoctorFinding]:
    """The key files that the owner of the state folder, the gate's user, cannot read."""
    try:
        user = pwd.getpwuid(config.gate.state_dir.stat().st_uid)
    except (OSError, KeyError):
        return  # before the first start it is not known
    owner = UserByModes.of(user)
    for path in dict.fromkeys(_key_files(config)):
        try:
            is_readable = owner.may(path, os.R_OK)
        except OSError:
            continue
        if not is_readable:
            text = f"{owner.name}, the owner of gate.state_dir, may not read it"
            yield found("key-unreadable", str(path), text)


def _key_files(config: Config) -> Iterator[Path]:
    """The files with private keys and the master key, which a running gate reads again."""
    yield config.directory.master_key_file
    certificates = list(config.feedback.certificates)
    keys = [config.feedback.tls_key_file]
    ports: tuple[TlsPort, ...] = (*config.listeners, *config.apis)
    for port in ports:
        keys.append(port.key_file)
        certificates += port.certificates
    keys += (upstream.key_file for upstream in config.upstreams)
    yield from filter(None, keys)
    yield from (one.key_file for one in certificates)


def _is_open(path: Path, rights: int) -> bool:
    try:
        return bool(path.stat().st_mode & rights)
    except OSError:
        return False  # other checks say that it is missing


async def examine_disk(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The space where the state folder is, or will be."""
    state = gate.config.gate.state_dir
    folder = next(path for path in (state, *state.parents) if path.exists())
    usage, files = shutil.disk_usage(folder), os.statvfs(folder)
    if usage.free < _FULL_OCTETS:
        yield found("disk-full", str(folder), f"{numbered(usage.free, 'octets')} are free")
    elif files.f_files and not files.f_favail:
        yield found("disk-full", str(folder), "no more files can be made")
    elif (shortage := shortage_of_space(gate.config)) is not None:
        yield found("disk-short", str(folder), shortage)
    elif usage.free < _SHORT_OCTETS:
        yield found("disk-short", str(folder), f"{numbered(usage.free, 'octets')} are free")


async def examine_limits(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The limits of the system for this process, which has those of the caller."""
    if (shortage := shortage_of_files(gate.config)) is not None:
        yield found("descriptors-few", "gate", shortage)


async def examine_served(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The gate's ports, beside the certificates in their files."""
    try:
        files = await to_thread(_certificates, gate)
    except OpenError as error:
        section, _, problem = str(error).partition(": ")
        yield found("certificate-unusable", section, problem)
        files = {}
    async for finding in examine_ports(gate, files):
        yield finding


def _certificates(gate: ExaminedGate) -> Files:
    """The certificates in the files of each port, by its label. Raises OpenError."""
    return {
        label: FilesOfPort(
            tuple(one for pair in tls.octets for one in _first(pair.certificate)), tls.context
        )
        for label, tls in Certificates(gate.config).of.items()
    }


def _first(pem: bytes) -> Iterator[ServedCertificate]:
    """The first certificate of a file, which is the server's own (RFC 8446 §4.4.2)."""
    head, end, _ = pem.partition(_END)
    start = head.find(b"-----BEGIN CERTIFICATE-----")
    if end and start >= 0:
        text = (head[start:] + end).decode("ascii")
        yield certificate_of(ssl.PEM_cert_to_DER_cert(text))
