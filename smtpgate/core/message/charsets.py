"""Names of character sets, and Python's codec for what mail programs mean by them.

The names are those of IANA's registry (https://www.iana.org/assignments/character-sets), its
aliases, and what Python and mail programs use beside them. Not in the table are character sets
in which ASCII's letters or ``@ < > .`` have other octets (UTF-16, UTF-32, EBCDIC), and UTF-7:
a program that does not know one of those shows another text, and UTF-7 spells one text in many
ways.
"""

import re
from collections.abc import Mapping
from typing import Final

_NOT_ALNUM: Final = re.compile("[^a-z0-9]+")

# By codec, the names without what `codec_of` leaves out of a name. Some are read as a superset
# the world over: ISO-8859-1 as windows-1252, GB2312 and GBK as GB18030, EUC-KR as windows-949,
# Shift_JIS as windows-31J.
_NAMES: Final = {
    "ascii": (
        "ascii usascii us 646 ansix341968 ansix341986 iso646irv1991 iso646us isoir6 cp367 "
        "ibm367"
    ),
    "utf-8": "utf8 utf u8 unicode11utf8 unicode20utf8 cp65001 iso10646utf8 utf8ucs2 utf8ucs4",
    "cp1252": (
        "iso88591 iso885911987 iso8859 8859 isoir100 latin1 latin l1 isolatin1 cp819 ibm819 "
        "windows1252 cp1252 1252 msansi iso88591windows31latin1 windows31latin1"
    ),
    "iso8859-2": "iso88592 iso885921987 isoir101 latin2 l2 isolatin2",
    "iso8859-3": "iso88593 iso885931988 isoir109 latin3 l3 isolatin3",
    "iso8859-4": "iso88594 iso885941988 isoir110 latin4 l4 isolatin4",
    "iso8859-5": "iso88595 iso885951988 isoir144 cyrillic isolatincyrillic",
    "iso8859-6": (
        "iso88596 iso88596e iso88596i iso885961987 isoir127 arabic isolatinarabic asmo708 "
        "ecma114"
    ),
    "iso8859-7": (
        "iso88597 iso885971987 iso885972003 isoir126 greek greek8 isolatingreek elot928 "
        "ecma118 suneugreek"
    ),
    "iso8859-8": (
        "iso88598 iso88598e iso88598i iso885981988 isoir138 hebrew isolatinhebrew logical "
        "visual"
    ),
    "iso8859-9": "iso88599 iso885991989 isoir148 latin5 l5 isolatin5",
    "iso8859-10": "iso885910 iso8859101992 isoir157 latin6 l6 isolatin6",
    "iso8859-11": "iso885911 iso8859112001 thai",
    "iso8859-13": "iso885913 isoir179 latin7 l7",
    "iso8859-14": "iso885914 iso8859141998 isoir199 isoceltic latin8 l8",
    "iso8859-15": "iso885915 latin9 l9 isolatin9",
    "iso8859-16": "iso885916 iso8859162001 isoir226 latin10 l10",
    "cp1250": "windows1250 cp1250 1250 msee",
    "cp1251": "windows1251 cp1251 1251 mscyrl",
    "cp1253": "windows1253 cp1253 1253 msgreek",
    "cp1254": "windows1254 cp1254 1254 msturk iso88599windowslatin5 windows31latin5",
    "cp1255": "windows1255 cp1255 1255 mshebr",
    "cp1256": "windows1256 cp1256 1256 msarab",
    "cp1257": "windows1257 cp1257 1257 winbaltrim",
    "cp1258": "windows1258 cp1258 1258",
    "cp874": "windows874 cp874 ibm874 dos874",
    "tis-620": "tis620 tis6200 tis62025290 tis62025291 tis62025330 isoir166",
    "koi8-r": "koi8r koi8 koi",
    "koi8-u": "koi8u koi8ru",
    "koi8-t": "koi8t",
    "kz1048": "kz1048 rk1048 strk10482002",
    "ptcp154": "ptcp154 pt154 cp154 cyrillicasian",
    "hp-roman8": "hproman8 roman8 r8 cp1051 ibm1051",
    "gb18030": (
        "gb18030 gb180302000 gb2312 gb23121980 gb231280 eucgb2312cn euccn gb isoir58 chinese "
        "iso58gb231280 gbk cp936 936 ms936 windows936 cngb macsimpchinese"
    ),
    "hz": "hz hzgb hzgb2312",
    "big5": "big5 big5tw cnbig5 xbig5 mactradchinese",
    "cp950": "cp950 950 ms950 windows950",
    "big5hkscs": "big5hkscs hkscs",
    "cp932": "shiftjis sjis mskanji windows31j cp932 932 ms932 windows932 macjapanese",
    "shift_jis_2004": "shiftjis2004 sjis2004",
    "shift_jisx0213": "shiftjisx0213 sjisx0213",
    "euc-jp": "eucjp ujis eucpkdfmtjapanese extendedunixcodepackedformatforjapanese",
    "euc_jis_2004": "eucjis2004 jisx0213",
    "euc_jisx0213": "eucjisx0213",
    "iso2022_jp": "iso2022jp",
    "iso2022_jp_1": "iso2022jp1",
    "iso2022_jp_2": "iso2022jp2",
    "iso2022_jp_2004": "iso2022jp2004",
    "iso2022_jp_3": "iso2022jp3",
    "iso2022_jp_ext": "iso2022jpext",
    "iso2022_kr": "iso2022kr",
    "cp949": (
        "euckr ksc5601 ksc56011987 ksc56011989 ksx1001 isoir149 korean mackorean cp949 949 "
        "ms949 windows949 uhc"
    ),
    "johab": "johab cp1361 ms1361",
    "mac-roman": "macroman macintosh mac",
    "mac-cyrillic": "maccyrillic macukrainian cp10007",
    "mac-greek": "macgreek",
    "mac-iceland": "maciceland",
    "mac-latin2": "maclatin2 maccenteuro maccentraleurope cp1282",
    "mac-romanian": "macromanian",
    "mac-croatian": "maccroatian",
    "mac-turkish": "macturkish",
    "mac-arabic": "macarabic",
    "mac-farsi": "macfarsi",
    "cp437": "cp437 ibm437 437 pc8codepage437",
    "cp720": "cp720",
    "cp737": "cp737",
    "cp775": "cp775 ibm775 775 pc775baltic",
    "cp850": "cp850 ibm850 850 pc850multilingual",
    "cp852": "cp852 ibm852 852 pcp852",
    "cp855": "cp855 ibm855 855",
    "cp856": "cp856 ibm856",
    "cp857": "cp857 ibm857 857",
    "cp858": "cp858 ibm858 858 ibm00858 cp00858 ccsid00858 pcmultilingual850euro",
    "cp860": "cp860 ibm860 860",
    "cp861": "cp861 ibm861 861 cpis",
    "cp862": "cp862 ibm862 862 pc862latinhebrew",
    "cp863": "cp863 ibm863 863",
    "cp864": "cp864 ibm864 864",
    "cp865": "cp865 ibm865 865",
    "cp866": "cp866 ibm866 866",
    "cp869": "cp869 ibm869 869 cpgr",
    "cp1006": "cp1006",
    "cp1125": "cp1125 ibm1125 1125 ibm848 cp866u ruscii",
}
CODECS: Final[Mapping[str, str]] = {
    name: codec for codec, names in _NAMES.items() for name in names.split()
}


def codec_of(charset: str) -> str | None:
    """Python's codec for a character set, or ``None`` when the name is not known.

    Case and marks do not count, as in Unicode's rule for comparing such names
    (https://www.unicode.org/reports/tr22/#Charset_Alias_Matching), nor do a leading ``x-`` and
    the ``cs`` of IANA's last alias.
    """
    name = _NOT_ALNUM.sub("", charset.lower())
    return CODECS.get(name) or CODECS.get(name.removeprefix("x")) or _by_cs_alias(name)


def _by_cs_alias(name: str) -> str | None:
    return CODECS.get(name.removeprefix("cs")) if name.startswith("cs") else None
