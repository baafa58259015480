"""Numbers and lists in the texts that people read."""


def numbered(number: int, things: str) -> str:
    """``3 identities``, ``1 identity``: the number and its noun, given in the plural."""
    if number != 1:
        return f"{number} {things}"
    if things.endswith("ies"):
        return f"1 {things[:-3]}y"
    return f"1 {things.removesuffix('es' if things.endswith('sses') else 's')}"
