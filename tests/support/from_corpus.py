"""Headers that say who a message is from, honest and forged, made by dice with a fixed seed.

Each is likely to be near something that programs read differently: quotes, comments, encoded
words, lists, brackets, and one or two characters where they do not belong.
"""

import base64
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

OWN: Final = ("marketing@ses-example.com", "a.b+c@ses-example.com", "Jane_D'Oe@SES-Example.com")
OTHERS: Final = ("ceo@bank.example", "president@bank.example", "x@y.test", "root@localhost")
_WORDS: Final = (
    *(
        "Jane",
        "Doe",
        "Q.",
        "Dr.",
        "R&D",
        "via",
        "[Team]",
        "[#42]",
        "--",
        "a.b",
        "O'Neil",
        "x=y",
    ),
    *("Team @ Example", "@example", "Dev@Scale", "Müller", "日本", "<", ">", ".", "=?", "?="),
)
_COMMENTS: Final = (
    *("(Dept)", "()", "(a (b) c)", "(x, y)", "(at 10:00; daily)", "(marketing)", "(it's)"),
    *("(=?utf-8?q?Fr=C3=BCh?=)", "([x])", "(a.b)", "(=?utf-8?q?a=2C?= b)", "(a)(b)"),
)
_FORGED_COMMENTS: Final = (
    *(
        "(ceo@bank.example)",
        "(<ceo@bank.example>)",
        "(a",
        r"(a\)b)",
        '("x")',
        "b)",
        "(a (b (c)))",
    ),
    *(
        "(=?utf-8?q?ceo=40bank=2Eexample?=)",
        "(=?utf-8?q?=3Cx=3E?=)",
        "(a) x)",
        "(,ceo@bank.test",
    ),
)
_SPECIAL: Final = "<>()[]\"\\,;:@. \t=?'`|!%/_*#\x7f"


def _encoded(dice: Random, text: str) -> str:
    charset = dice.choice(["utf-8", "UTF-8", "utf8", "iso-8859-1", "us-ascii", "x-none"])
    octets = text.encode("latin-1" if charset == "iso-8859-1" else "utf-8", "replace")
    if dice.random() < 0.5:
        return f"=?{charset}?B?{base64.b64encode(octets).decode('ascii')}?="
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    quoted = "".join(chr(o) if o in plain else f"={o:02X}" for o in octets)
    return f"=?{charset}?Q?{quoted.replace('=20', '_')}?="


def _split_encoded(dice: Random, text: str) -> str:
    """A text in two or three encoded words, cut anywhere."""
    pieces, rest = [], text
    for _ in range(dice.randint(1, 2)):
        at = dice.randint(0, len(rest))
        pieces.append(_encoded(dice, rest[:at]))
        rest = rest[at:]
    return dice.choice([" ", "  ", "\t", ""]).join([*pieces, _encoded(dice, rest)])


def _quoted(dice: Random, text: str) -> str:
    if dice.random() < 0.7:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _text(dice: Random) -> str:
    """Texts of names, and ways to hide them."""
    if dice.random() < 0.7:
        return " ".join(dice.choices(_WORDS, k=dice.randint(1, 3)))
    address = dice.choice(OTHERS + OWN[:1])
    shape = dice.choice(
        [
            *("{}", "<{}>", "{} x", "x {}", '"{}"', "<{}>,", "{},", "({})", 'a\\" <{}>', "{}>"),
            *("{} via List", "Jane ({})", "{}:;", "{};", "mailto:{}", "'{}'", ",<{}>", "<{}"),
        ]
    )
    return shape.format(address)


def _name(dice: Random) -> str:
    text = _text(dice)
    ways: list[Callable[[], str]] = [
        *([lambda: _quoted(dice, text)] * 6),
        *([lambda: _encoded(dice, text)] * 4),
        *([lambda: _split_encoded(dice, text)] * 2),
        *([lambda: text] * 2),
        *([lambda: " ".join(dice.choices(_WORDS[:12], k=dice.randint(1, 3)))] * 3),
        lambda: _quoted(dice, _encoded(dice, text)),
        lambda: _quoted(dice, _quoted(dice, text)),
        lambda: _encoded(dice, _encoded(dice, text)),
    ]
    return dice.choice(ways)()


def _address(dice: Random) -> str:
    if dice.random() < 0.9:
        return dice.choice(OWN)
    local_part = dice.choice(
        [
            *('"joe"', '"president@bank.example x"', '"<ceo@bank.example>"', '"a,b"', "a..b"),
            *('"a\\"b"', '"a>b"', "a.", ".a", '"ceo@bank.example"', "a b", "=?utf-8?q?ceo?="),
            *("ceo%bank.example", "bank.example!ceo", "a(x)", "(x)a", '""', '"a" . b', "#a"),
        ]
    )
    domain = dice.choice(
        [
            *("ses-example.com", "ses-example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "x"),
            *("ses-example.com.", "ses-example.com(x)", "ses-example .com", "@ses-example.com"),
        ]
    )
    return f"{local_part}@{domain}"


def _comment(dice: Random) -> str:
    return dice.choice(_COMMENTS if dice.random() < 0.85 else _FORGED_COMMENTS)


def _mailbox(dice: Random) -> str:
    address = _address(dice)
    way = dice.random()
    if way < 0.15:
        return address
    if way < 0.3:
        return f"{address} {_comment(dice)}"
    gap = dice.choice([" ", " ", "", "\t", "  "])
    inner = dice.choice(["<{}>"] * 9 + ["< {} >", "<@relay.example:{}>", "<<{}>>"]).format(
        address
    )
    pieces = [inner] if way < 0.4 else [_name(dice), inner]
    for _ in range(dice.choice([0, 0, 0, 1, 1, 2])):
        pieces.insert(dice.randint(0, len(pieces)), _comment(dice))
    return gap.join(pieces)


def _spoiled(dice: Random, text: str) -> str:
    """The text with a character or two put in, taken out, or said twice."""
    for _ in range(dice.choice([0, 0, 0, 0, 1, 2])):
        at = dice.randint(0, len(text))
        way = dice.random()
        if way < 0.6:
            text = text[:at] + dice.choice(_SPECIAL) + text[at:]
        elif way < 0.8:
            text = text[:at] + text[at + 1 :]
        else:
            text = text[:at] + text[at : at + 1] + text[at:]
    return text


def values(count: int, seed: int = 1) -> Iterator[str]:
    """Values of From and Sender, unfolded."""
    dice = Random(seed)
    for _ in range(count):
        mailboxes = [_mailbox(dice) for _ in range(dice.choice([1, 1, 1, 1, 1, 2, 3]))]
        value = dice.choice([", ", ", ", ",", " , ", "; "]).join(mailboxes)
        if dice.random() < 0.03:
            value = f"Group: {value};"
        yield _spoiled(dice, value)


_SOUP: Final = (
    *OWN,
    *("<marketing@ses-example.com>", "<a.b+c@ses-example.com>", "<Jane_D'Oe@SES-Example.com>"),
    *("<", ">", "(", ")", "[", "]", '"', "\\", ",", ";", ":", "@", ".", " ", "\t", "=?", "?="),
    *("a", "Jane", "(x)", "[x]", '"x"', '"x@y"', '""', "()", "=?utf-8?q?x?=", "x@y", "'", "-"),
    *(
        "=?utf-8?q?=22?=",
        "=?utf-8?q?=28?=",
        "=?utf-8?b?IiI=?=",
        "(a (b) c)",
        '"\\""',
        "ü",
        "com",
    ),
)


def soup(count: int, seed: int = 3) -> Iterator[str]:
    """A few pieces in any order, one address at least among them."""
    dice = Random(seed)
    for _ in range(count):
        pieces = dice.choices(_SOUP, k=dice.randint(0, 6))
        pieces.insert(dice.randint(0, len(pieces)), dice.choice(_SOUP[:6]))
        yield dice.choice(["", "", " "]).join(pieces)


def _folded(dice: Random, value: str) -> str:
    pieces = []
    for character in value:
        is_fold = character in " \t" and dice.random() < 0.3
        pieces.append(f"\r\n{character}" if is_fold else character)
        if is_fold and dice.random() < 0.1:
            pieces.append(dice.choice(["\r\n ", "\r\n\t \r\n "]))
    return "".join(pieces)


def _named(dice: Random, name: str, value: str) -> str:
    if dice.random() < 0.3:
        name = "".join(dice.choice([one.upper(), one.lower()]) for one in name)
    if dice.random() < 0.1:
        at = dice.choice([0, len(name)])
        name = (
            name[:at]
            + dice.choice(">)(<\"',;.-_ \t@\\/|!*\x0b\x0c\x01\x1f\x7f\xa0")
            + name[at:]
        )
    after = dice.choice([" ", " ", "", "\t", "\r\n ", "  "])
    gap = dice.choice(["", "", "", "", " ", "\t", " \t "])
    return f"{name}{gap}:{after}{_folded(dice, value)}\r\n"


def blocks(count: int, seed: int = 2) -> Iterator[bytes]:
    """Whole header blocks, each with the empty line behind it and a short body."""
    dice = Random(seed)
    plain = [value for value in values(400, seed) if value.isascii()]
    for _ in range(count):
        good = dice.choice(["Jane <{}>", "{}", '"Jane (x)" <{}>', "Jane (x) <{}>"])
        fields = [_named(dice, "From", good.format(dice.choice(OWN)))]
        for name, share in (("From", 0.15), ("Sender", 0.4), ("X-SES-Tag", 0.2)):
            if dice.random() < share:
                fields.append(_named(dice, name, dice.choice([*OTHERS, *OWN, *plain])))
        for line in (
            *("Subject: a letter\r\n", "To: jane@example.net\r\n", "MIME-Version: 1.0\r\n"),
            *(
                "Subject:\r\n  long\r\n \r\n\ttext\r\n",
                "Date: Mon, 01 Jun 2026 10:00:00 +0200\r\n",
            ),
            *("X-Note: a\r\n \t\r\n", "Comments: From: ceo@bank.example\r\n", "From ceo\r\n"),
            *("Received: from a\r\n\tby b\r\n", " From: ceo@bank.example\r\n", ": x\r\n"),
            *("X-Odd: \x0bFrom: ceo@bank.example\r\n", "X-Odd: a\rFrom: ceo@bank.example\r\n"),
            "Content-Type: text/plain\r\n",
        ):
            if dice.random() < 0.12:
                fields.insert(dice.randint(0, len(fields)), line)
        yield (
            "".join(fields).encode("latin-1", "replace")
            + b"\r\nFrom: ceo@bank.example\r\n\r\nx\r\n"
        )
