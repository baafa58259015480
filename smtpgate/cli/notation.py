"""How commands name things: ``ACCOUNT``, ``ACCOUNT/USER``, ``ACCOUNT/IDENTITY`` or an ARN."""

from dataclasses import dataclass

from smtpgate.core.arn import IdentityArn, identity_name, is_account_id
from smtpgate.core.naming import access_key_id, account_id, user_name
from smtpgate.directory.change import RefusedChangeError


@dataclass(frozen=True, slots=True)
class UserPlace:
    """A user of an account."""

    account_id: str
    name: str

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class OwnerPlace:
    """Who has access keys: a user, or an account's root when ``user_name`` is ``None``."""

    account_id: str
    user_name: str | None


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """An access key."""

    id: str


@dataclass(frozen=True, slots=True)
class IdentityPlace:
    """An identity of an account; ``arn`` is what it was named by, if that was an ARN."""

    account_id: str
    name: str
    arn: IdentityArn | None = None

    def __str__(self) -> str:
        return f"{self.account_id}/{self.name}"

    def must_be_in(self, region: str, partition: str) -> None:
        """Raises RefusedChangeError when an ARN names another region or partition."""
        arn = self.arn
        if arn is not None and (arn.region, arn.partition) != (region, partition):
            raise RefusedChangeError(
                f"{arn} is not of this gate's region {region} and partition {partition}"
            )


@dataclass(frozen=True, slots=True)
class WhosePlace:
    """Whose limits: an account's, a user's, an access key's, or those by an identity."""

    place: OwnerPlace | KeyPlace | IdentityPlace


def user_place(text: str) -> UserPlace:
    """``ACCOUNT/NAME``. Raises ValueError."""
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no user: write ACCOUNT/NAME")
    return UserPlace(account_id(account), user_name(name))


def owner_place(text: str) -> OwnerPlace:
    """``ACCOUNT`` for its root, ``ACCOUNT/NAME`` for a user. Raises ValueError."""
    if "/" not in text:
        return OwnerPlace(account_id(text), None)
    user = user_place(text)
    return OwnerPlace(user.account_id, user.name)


def identity_place(text: str) -> IdentityPlace:
    """``ACCOUNT/DOMAIN``, ``ACCOUNT/ADDRESS`` or an identity's ARN. Raises ValueError."""
    if text.startswith("arn:"):
        arn = IdentityArn.parse(text)
        return IdentityPlace(arn.account_id, arn.name, arn)
    account, slash, name = text.partition("/")
    if not slash:
        raise ValueError(f"`{text}' names no identity: write ACCOUNT/NAME, or its ARN")
    return IdentityPlace(account_id(account), identity_name(name))


def whose_place(text: str) -> WhosePlace:
    """``ACCOUNT``, ``ACCOUNT/USER``, an access key's id, or an ARN. Raises ValueError."""
    if text.startswith("arn:"):
        return WhosePlace(identity_place(text))
    if "/" in text or is_account_id(text):
        return WhosePlace(owner_place(text))
    try:
        return WhosePlace(KeyPlace(access_key_id(text)))
    except ValueError:
        raise ValueError(
            f"`{text}' is neither ACCOUNT, ACCOUNT/USER, an access key's id nor an ARN"
        ) from None
