import codecs
import encodings.aliases

import pytest

from smtpgate.core.message.author import parse_authors
from smtpgate.core.message.charsets import CODECS, codec_of
from tests.support.rows import rows

# Names and aliases of IANA's registry, and what mail programs write beside them.
NAMES = {
    "ascii": "US-ASCII us-ascii ascii ASCII ANSI_X3.4-1968 ISO646-US iso-ir-6 cp367 csASCII",
    "utf-8": "UTF-8 utf8 UTF_8 csUTF8 unicode-1-1-utf-8 unicode20utf8 x-unicode20utf8",
    "cp1252": (
        "ISO-8859-1 iso8859-1 ISO_8859-1 ISO_8859-1:1987 latin1 Latin-1 l1 IBM819 CP819 "
        "iso-ir-100 csISOLatin1 windows-1252 cp1252 x-cp1252 cswindows1252 "
        "ISO-8859-1-Windows-3.1-Latin-1 csWindows31Latin1"
    ),
    "iso8859-2": "ISO-8859-2 ISO_8859-2:1987 latin2 l2 csISOLatin2 iso-ir-101",
    "iso8859-5": "ISO-8859-5 cyrillic csISOLatinCyrillic",
    "iso8859-6": "ISO-8859-6 ISO-8859-6-E ISO-8859-6-I arabic csISO88596E ECMA-114 ASMO-708",
    "iso8859-7": "ISO-8859-7 greek greek8 ELOT_928 ECMA-118 csISOLatinGreek sun_eu_greek",
    "iso8859-8": "ISO-8859-8 iso-8859-8-i iso-8859-8-e hebrew csISO88598I csISOLatinHebrew",
    "iso8859-9": "ISO-8859-9 latin5 l5 csISOLatin5",
    "iso8859-13": "ISO-8859-13 csISO885913",
    "iso8859-15": "ISO-8859-15 ISO_8859-15 Latin-9 csISO885915 csISOLatin9",
    "cp1250": "windows-1250 cp1250 x-cp1250 cswindows1250",
    "cp1251": "windows-1251 cp1251 CP1251 x-cp1251",
    "cp1255": "windows-1255 cp1255",
    "cp874": "windows-874 cp874",
    "tis-620": "TIS-620 csTIS620",
    "koi8-r": "KOI8-R koi8-r koi8_r csKOI8R",
    "koi8-u": "KOI8-U KOI8-RU csKOI8U",
    "gb18030": "GB18030 GB2312 gb_2312-80 GBK CP936 MS936 windows-936 x-gbk csGBK EUC-CN",
    "hz": "HZ-GB-2312",
    "big5": "Big5 csBig5 cn-big5 x-x-big5",
    "big5hkscs": "Big5-HKSCS csBig5HKSCS",
    "cp932": "Shift_JIS shift-jis sjis x-sjis MS_Kanji csShiftJIS Windows-31J cp932 MS932",
    "euc-jp": "EUC-JP x-euc-jp csEUCPkdFmtJapanese",
    "iso2022_jp": "ISO-2022-JP iso2022-jp csISO2022JP",
    "iso2022_jp_2": "ISO-2022-JP-2",
    "iso2022_kr": "ISO-2022-KR csISO2022KR",
    "cp949": "EUC-KR KS_C_5601-1987 KS_C_5601-1989 KSC_5601 korean csEUCKR windows-949 cp949",
    "mac-roman": "macintosh mac x-mac-roman csMacintosh",
    "mac-cyrillic": "x-mac-cyrillic",
    "cp437": "IBM437 cp437 437 csPC8CodePage437",
    "cp850": "IBM850 cp850 csPC850Multilingual",
    "cp858": "IBM00858 CCSID00858 CP00858 PC-Multilingual-850+euro csIBM00858",
    "cp1254": "windows-1254 ISO-8859-9-Windows-Latin-5 csWindows31Latin5",
    "cp866": "IBM866 cp866 csIBM866",
    "ptcp154": "PTCP154 Cyrillic-Asian csPTCP154",
    "kz1048": "KZ-1048 RK1048",
    "hp-roman8": "hp-roman8 roman8 r8 csHPRoman8",
}
UNKNOWN = (
    *("UTF-7", "UTF-16", "UTF-16LE", "UTF-32BE", "IBM037", "cp500", "ebcdic-us", "x-unknown"),
    *(
        "unknown-8bit",
        "x-user-defined",
        "base64",
        "rot13",
        "zlib",
        "idna",
        "punycode",
        "x",
        "cs",
    ),
    *("unicode_escape", "raw_unicode_escape", "hex", "mbcs", "undefined", "", "-", "utf-8x"),
)


@rows("codec", NAMES)
def test_a_character_set_is_known_by_its_names_and_aliases(codec: str) -> None:
    for name in NAMES[codec].split():
        assert codec_of(name) == codec, name


@rows("name", UNKNOWN)
def test_what_programs_read_in_several_ways_is_not_known(name: str) -> None:
    assert codec_of(name) is None


@rows("codec", sorted(set(CODECS.values())))
def test_ascii_is_ascii_in_every_character_set(codec: str) -> None:
    text = "".join(chr(octet) for octet in range(32, 127))
    kept = "".join(one for one in text if one.isalnum() or one in "@<>. ")
    assert kept.encode("ascii").decode(codec) == kept


def test_every_text_codec_of_python_that_keeps_ascii_is_known() -> None:
    left_out = {"utf_7", "utf_8_sig", "punycode", "raw_unicode_escape", "unicode_escape"}
    for alias, codec in encodings.aliases.aliases.items():
        if codec in left_out or not _keeps_ascii(codec):
            assert codec_of(alias) is None
            continue
        known = codec_of(alias)
        assert known is not None, alias
        octets = b"=Joe.Public@example.com"
        assert octets.decode(known) == octets.decode(codec)


def _keeps_ascii(codec: str) -> bool:
    try:
        return b"Az09@<>.".decode(codec) == "Az09@<>."
    except (LookupError, UnicodeError):
        return False


@pytest.mark.parametrize("name", ["ascii", "latin1", "ISO_8859-1", "iso-8859-8-i", "cp1251"])
def test_a_display_name_may_be_in_it(name: str) -> None:
    value = f"=?{name}?Q?Shop?= <marketing+a@ses-example.com>"
    assert parse_authors(value, smtputf8=False)[0].display_name == "Shop"


def test_every_name_in_the_table_stands_for_one_character_set() -> None:
    for name, codec in CODECS.items():
        assert codec_of(name) == codec_of(f"X-{name}") == codec
        codecs.lookup(codec)
