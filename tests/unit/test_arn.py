import pytest

from smtpgate.core.arn import ArnError, IdentityArn, identity_name, root_arn, user_arn
from tests.support.rows import rows


def test_an_identity_arn_reads_and_prints() -> None:
    text = "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"
    arn = IdentityArn.parse(text)
    assert (arn.partition, arn.region, arn.account_id) == ("aws", "us-east-1", "888888888888")
    assert arn.name == "ses-example.com"
    assert str(arn) == text


def test_the_name_of_an_identity_has_one_spelling() -> None:
    arn = IdentityArn.parse("arn:aws:ses:*:888888888888:identity/Sales@SES-Example.com")
    assert arn.name == "Sales@ses-example.com"
    assert identity_name("SES-Example.com") == "ses-example.com"


@rows(
    "text",
    [
        "",
        "ses-example.com",
        "arn:aws:ses:us-east-1:888888888888:identity/",
        "arn:aws:ses:us-east-1:888888888888:identity/a b.example",
        "arn:aws:ses:us-east-1:88888888888:identity/ses-example.com",
        "arn:aws:ses:us-east-1:888888888888:template/T",
        "arn:aws:sns:us-east-1:888888888888:identity/ses-example.com",
        "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com\n",
        "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com/more",
        "ARN:aws:ses:us-east-1:888888888888:identity/ses-example.com",
        "arn:aws-iso:ses:us-east-1:888888888888:identity/ses-example.com",
        "arn:aws:ses:us-east-1:٨٨٨٨٨٨٨٨٨٨٨٨:identity/ses-example.com",
    ],
)
def test_what_is_no_identity_arn_is_refused(text: str) -> None:
    with pytest.raises(ArnError):
        IdentityArn.parse(text)


def test_the_path_is_part_of_a_user_arn() -> None:
    assert user_arn("999999999999", "John", "/team-a/") == (
        "arn:aws:iam::999999999999:user/team-a/John"
    )
    assert root_arn("999999999999") == "arn:aws:iam::999999999999:root"
