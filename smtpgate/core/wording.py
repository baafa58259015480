"""Numbers and lists in the texts that people read."""


def numbered(number: int, things: str) -> str:
    """``3 identities``, ``1 identity``: the number and its noun, given in the plural."""
    if number != 1:
        return f"{number} {things}"
    return f"1 {things[:-3]}y" if things.endswith("ies") else f"1 {things[:-1]}"
