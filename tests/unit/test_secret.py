import pytest

from smtpgate.core.secret import Secret, smtp_password

SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


@pytest.mark.parametrize(
    ("region", "password"),
    [
        ("us-east-1", "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9"),
        ("us-west-2", "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd"),
        ("eu-west-1", "BMW5RDrXmmVs0lV7GpI4oLkHXpZ4stDsk6q91z1g38Pk"),
    ],
)
def test_the_smtp_password_is_derived_per_region_as_ses_does(
    region: str, password: str
) -> None:
    assert smtp_password(SECRET, region).value == password


def test_a_secret_does_not_print() -> None:
    assert SECRET.value not in f"{SECRET} {SECRET!r} {[SECRET]}"
