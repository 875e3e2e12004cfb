"""Characters that some server reads as ASCII, as a table at the head of `policy.lua`: pure.

What compatibility decomposition makes ASCII (Unicode Standard Annex 15) without accents and case (a Kelvin sign is a `k`,
a long s an `s`), what Windows' best fit for code pages 1252, 932 and 949 turns into letters, slashes and dots, what is
cut off as blank, and what case folding ignores (Unicode Standard, section 5.21).
"""

import unicodedata
from functools import cache
from importlib import resources

# Best fit, and letters that have no decomposition.
_BEST_FIT = {
    **dict.fromkeys("\u2044\u2215\u29f8\u2571", "/"),
    **dict.fromkeys("\u2216\u29f5\u29f9\u2572\u00a5\uffe5\u20a9\uffe6", "\\"),
    **dict.fromkeys("\u3002\uff61\u2219\u22c5", "."),
    **dict.fromkeys("\u0085\u1680\u2028\u2029", " "),
    "\u2236": ":",
    **dict(zip("ıŁłĐđðØøħĦŧŦƀ", "illdddoohhttb", strict=True)),
    **dict(zip("ΓΘΣΦΩαδεπστφ", "gtsfoadepstf", strict=True)),
}
_IGNORED = (
    *((0xAD, 0xAD), (0x300, 0x36F), (0x180B, 0x180D), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
)


@cache
def folds() -> dict[str, str]:
    """Character that is not ASCII -> what it may be read as."""
    found = dict(_BEST_FIT)
    for first, last in _IGNORED:
        found |= dict.fromkeys(map(chr, range(first, last + 1)), "")
    for code in range(0x80, 0x20000):
        plain = "".join(one for one in unicodedata.normalize("NFKD", chr(code)) if not unicodedata.combining(one))
        text = plain.casefold()
        if text and text.isascii():
            found.setdefault(chr(code), text)
    return found


@cache
def program() -> str:
    """The whole of what HAProxy loads."""
    rows = (f"[{_quoted(char)}]={_quoted(text)}" for char, text in folds().items())
    table = f"local FOLDED = {{{','.join(rows)}}} -- vrata.ingress.folds\n"
    return table + resources.files("vrata.ingress").joinpath("policy.lua").read_text()


def _quoted(text: str) -> str:
    """A string of Lua."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode()) + '"'
