"""Numbers with their words."""


def numbered(number: int, things: str) -> str:
    """``3 identities``, ``1 identity``: the word is given as it stands beside several."""
    if number != 1:
        return f"{number} {things}"
    return f"1 {things[:-3]}y" if things.endswith("ies") else f"1 {things[:-1]}"
