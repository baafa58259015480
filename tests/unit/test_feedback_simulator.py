"""The mailbox simulator: addresses whose outcome is known before anything is sent."""

from smtpgate.core.feedback.simulator import SIMULATOR_DOMAIN, simulation_of
from tests.support.rows import rows


@rows(
    "local,kind,is_delivered,named",
    [
        ("success", "delivery", True, None),
        ("bounce", "bounce", False, "Permanent General"),
        ("suppressionlist", "bounce", False, "Permanent Suppressed"),
        ("complaint", "complaint", True, None),
        ("ooto", "answer", True, None),
        ("bounce+label1", "bounce", False, "Permanent General"),
        ("Bounce", "bounce", False, "Permanent General"),
        ("another", "delivery", True, None),
    ],
)
def test_an_address_of_the_simulator_has_its_outcome(
    local: str, kind: str, is_delivered: bool, named: str | None
) -> None:
    address = f"{local}@{SIMULATOR_DOMAIN}"
    simulation = simulation_of(address)
    assert simulation is not None
    assert simulation.is_delivered == is_delivered
    bounce = simulation.recipient.kind
    assert simulation.kind == kind
    assert (bounce and f"{bounce.type} {bounce.subtype}") == named


def test_other_addresses_are_not_of_the_simulator() -> None:
    assert simulation_of("bounce@example.com") is None
    assert simulation_of(f"bounce@x.{SIMULATOR_DOMAIN}") is None
    assert simulation_of(SIMULATOR_DOMAIN) is None
    assert simulation_of("bounce@test.example", "test.example") is not None


def test_a_complaint_of_the_simulator_is_abuse() -> None:
    simulation = simulation_of(f"complaint@{SIMULATOR_DOMAIN.upper()}")
    assert simulation is not None
    assert simulation.feedback_type == "abuse"
