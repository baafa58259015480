import pytest

from smtpgate.core.proof.nameserver import NameserverError, parse_nameserver
from tests.support.rows import rows


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("[::1]:1", "::1", 1),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(
    text: str, address: str, port: int
) -> None:
    server = parse_nameserver(text)
    assert (server.address.compressed, server.port) == (address, port)
    assert parse_nameserver(str(server)) == server


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:5353", "::1", "[::1]:5353"])
def test_a_name_server_prints_as_it_is_written(text: str) -> None:
    assert str(parse_nameserver(text)) == text


@pytest.mark.parametrize(
    ("text", "shorter"), [("192.0.2.1:53", "192.0.2.1"), ("[::1]:53", "::1")]
)
def test_the_usual_port_is_left_out(text: str, shorter: str) -> None:
    assert str(parse_nameserver(text)) == shorter


@rows(
    "text",
    ["", "ns.example.com", "localhost:53", "192.0.2.1:", "192.0.2.300", "[::1]", "[::1]53",
     "192.0.2.1:99999999", "192.0.2.1 :53", "192.0.2.1\n", "https://192.0.2.1/"],
)  # fmt: skip
def test_anything_else_is_no_name_server(text: str) -> None:
    with pytest.raises(NameserverError, match="is not the address of a name server"):
        parse_nameserver(text)


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_is_1_to_65535(port: int) -> None:
    with pytest.raises(NameserverError, match="has a port that is not 1 to 65535"):
        parse_nameserver(f"192.0.2.1:{port}")
