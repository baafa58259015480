"""The values of condition keys."""

from smtpgate.core.address import parse_forward_path
from smtpgate.core.authorization.context import recipient_values, tag_values


def test_a_recipient_counts_also_where_it_may_be_routed_to() -> None:
    recipients = [
        parse_forward_path(text)
        for text in ("jane@a.example", "joe%b.example@a.example", "ann.lee@a.example")
    ]
    assert recipient_values(recipients) == (
        "jane@a.example",
        "joe%b.example@a.example",
        "joe@b.example",
        "ann.lee@a.example",
    )


def test_a_tag_has_all_its_values_however_its_name_is_written() -> None:
    tags = (("campaign", ("spring", "summer")), ("Campaign", ("autumn",)), ("kind", ("x",)))
    assert tag_values(tags) == {
        "smtpgate:messagetag/campaign": ("spring", "summer", "autumn"),
        "smtpgate:messagetag/kind": ("x",),
        "smtpgate:messagetagkeys": ("campaign", "Campaign", "kind"),
    }
