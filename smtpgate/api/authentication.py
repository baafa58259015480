"""The caller: the signature of a request, checked against the directory's access keys.

What can be refused without the body is refused before it is read, so that only those who name
a usable key can have the gate read one. An unknown key and one that may not be used are as
good as the same to a client, and cost the same as a wrong signature. The log has why a key may
not be used, if the signature is by it.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from smtpgate.core.account import AccessKey, KeyRefusal
from smtpgate.core.api.signing_keys import SigningKeys
from smtpgate.core.api.sigv4 import (
    SES_SERVICES,
    UNKNOWN_KEY,
    Claim,
    SignatureError,
    SignedRequest,
    must_be_current,
    must_be_for,
    must_be_signed_by,
    must_have_stated_body,
    read_claim,
)
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


class ClaimedKey(NamedTuple):
    """The key that a claim names, if there is one, and why it may not be used now."""

    key: AccessKey | None
    refusal: KeyRefusal | None = None

    @property
    def is_usable(self) -> bool:
        """True if a valid signature by it is a login."""
        return self.key is not None and self.refusal is None


class RefusedKeyError(SignatureError):
    """A valid signature by a key that may not be used: to the client, an unknown key."""

    def __init__(self, refusal: KeyRefusal, text: str) -> None:
        super().__init__("unknown-key", text)
        self.refusal: KeyRefusal = refusal


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

    async def claimed_key(self, claim: Claim, address: str) -> ClaimedKey:
        """The key of a claim, as a client at that address may use it.

        Raises DirectoryUnavailableError.
        """
        key = await self._directory.access_key(claim.access_key_id)
        if key is None:
            return ClaimedKey(None)
        return ClaimedKey(key, key.refusal(address, self._clock.now()))

    def must_be_signed(
        self, request: SignedRequest, claim: Claim, claimed: ClaimedKey
    ) -> AccessKey:
        """The key, if the signature is by it and it may be used.

        Raises SignatureError; of a key that may not be used as of an unknown one, whatever the
        signature is, and RefusedKeyError if it is valid.
        """
        key, refusal = claimed
        if key is None or refusal is None:
            secret = None if key is None else key.secret
            must_be_signed_by(request, claim, secret, self._keys)
            if key is None:  # it has raised already
                raise SignatureError("unknown-key", UNKNOWN_KEY)
            return key
        must_have_stated_body(request)
        try:
            must_be_signed_by(request, claim, key.secret, self._keys)
        except SignatureError:
            raise SignatureError("unknown-key", UNKNOWN_KEY) from None
        raise RefusedKeyError(refusal, UNKNOWN_KEY)
