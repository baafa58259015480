"""A DNS in memory: the records that a test publishes, behind the resolver's port."""

from collections.abc import Mapping, Sequence

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.core.proof.mail_from import Mx
from smtpgate.core.proof.soa import Soa
from smtpgate.ports import Resolver, ResolverError

MX_HOST = "bounces.gate.example.com"
LABEL = "_smtpgate"


class Records:
    """Answers with TXT and MX records by their names; ``asked`` are the names."""

    def __init__(
        self,
        txt: Mapping[str, Sequence[bytes]] | None = None,
        mx: Mapping[str, Sequence[Mx]] | None = None,
    ) -> None:
        self.txt_records = dict(txt or {})
        self.mx_records = dict(mx or {})
        self.soa_records: dict[str, Soa] = {}
        self.is_broken = False
        self.asked: list[str] = []

    async def txt(self, name: str) -> Sequence[bytes]:
        """The TXT records of that name."""
        self._ask(name)
        return self.txt_records.get(name, ())

    async def mx(self, name: str) -> Sequence[Mx]:
        """The MX records of that name."""
        self._ask(name)
        return self.mx_records.get(name, ())

    async def soa(self, name: str) -> Soa | None:
        """The start of authority of that name."""
        return self.soa_records.get(name)

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if self.is_broken:
            raise ResolverError(f"{name!r}: the name server did not answer in time")


def checks_by(resolver: Resolver) -> DnsChecks:
    """The checks of identities by that resolver."""
    return DnsChecks(resolver, LABEL, MX_HOST)
