"""A certificate authority for one test, with the certificates it signed, as PEM files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.daemons import LOOPBACK, Lab


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, each in a file."""

    cert_file: Path
    key_file: Path


class Authority:
    """Signs server certificates, and makes clients trust them."""

    def __init__(self, lab: Lab) -> None:
        self._ca = trustme.CA()
        self._made: dict[str, Certificate] = {}
        self._folder = lab.new_folder("certificates")
        self.ca_file = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def certificate(self, name: str) -> Certificate:
        """A certificate for that host name and for the loopback address, made once."""
        if name in self._made:
            return self._made[name]
        leaf = self._ca.issue_cert(name, LOOPBACK)
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        for chain in leaf.cert_chain_pems:
            chain.write_to_path(str(made.cert_file), append=True)
        leaf.private_key_pem.write_to_path(str(made.key_file))
        self._made[name] = made
        return made

    def renew(self, name: str) -> bytes:
        """Put another certificate and key for that name into its files; returns its DER."""
        made, leaf = self._made[name], self._ca.issue_cert(name, LOOPBACK)
        made.cert_file.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
        made.key_file.write_bytes(leaf.private_key_pem.bytes())
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    def client_context(self) -> ssl.SSLContext:
        """TLS settings of a client that trusts this authority only."""
        return ssl.create_default_context(cafile=str(self.ca_file))
