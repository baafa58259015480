"""The caller: the signature of a request, checked against the directory's access keys.

What can be refused without the body is refused before it is read, so that only those who name
a usable key can have the gate read one. An unknown key and one that may not be used are as
good as the same, and cost the same as a wrong signature.
"""

from collections.abc import Collection, Mapping
from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.api.signing_keys import SigningKeys
from smtpgate.core.api.sigv4 import (
    SES_SERVICES,
    Claim,
    SignatureError,
    SignedRequest,
    must_be_current,
    must_be_for,
    must_be_signed_by,
    read_claim,
)
from smtpgate.core.secret import Secret
from smtpgate.ports import Clock, Directory

# By the service in the scope of a credential.
SERVICES: Final[Mapping[str, str]] = {
    **dict.fromkeys(SES_SERVICES, "ses"),
    "sts": "sts",
    "iam": "iam",
    "sns": "sns",
}
_REST: Final = "sesv2"
# IAM has one region for all, and clients sign for it.
_GLOBAL_REGION: Final = "us-east-1"
_GLOBAL: Final = frozenset({"iam", "sts"})


class Authentication:
    """Reads and checks signatures."""

    def __init__(self, directory: Directory, region: str, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._keys = SigningKeys()
        # By whether a service is of one region for all.
        self._regions = {False: frozenset({region}), True: frozenset({region, _GLOBAL_REGION})}

    def claim(self, request: SignedRequest, *, is_rest: bool) -> tuple[Claim, str]:
        """The signature that the request says it has, and the service that it calls.

        Raises SignatureError.
        """
        claim = read_claim(request)
        services: Collection[str] = SES_SERVICES if is_rest else SERVICES
        must_be_for(claim, self._regions[claim.service in _GLOBAL], services)
        must_be_current(claim, self._clock.now())
        return claim, _REST if is_rest else SERVICES[claim.service]

    async def usable_key(self, claim: Claim, address: str) -> AccessKey | None:
        """The key of a claim if it may be used from there now, else ``None``.

        Raises DirectoryUnavailableError.
        """
        key = await self._directory.access_key(claim.access_key_id)
        if key is None or key.refusal(address, self._clock.now()) is not None:
            return None
        return key

    def must_be_signed(
        self, request: SignedRequest, claim: Claim, key: AccessKey | None
    ) -> AccessKey:
        """The key, if the signature is by it. Raises SignatureError."""
        secret: Secret | None = None if key is None else key.secret
        must_be_signed_by(request, claim, secret, self._keys)
        if key is None:  # it has raised already
            raise SignatureError("unknown-key", "")
        return key
