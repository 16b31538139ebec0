"""Formats of strings, as regular languages. Each is narrower than its standard: what it holds, every validator takes."""

from __future__ import annotations

from functools import cache

from .language import Language
from .regex import whole

__all__ = ["ANNOTATIONS", "FORMATS", "format_language"]

_LEAP = "(?:[02468][48]|[2468]0|[13579][26])"
"""Two digits of a year that can be divided by four, without 00."""
_CENTURY = "(?:[02468][048]|[13579][26])"
"""Two first digits of a year that can be divided by 400."""
_DAYS = "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP_DAY = f"(?:(?:[0-9]{{2}}{_LEAP}|(?:0[48]|[2468][048]|[13579][26])00)-02-29)"
_DATE = f"(?:{_YEAR}-{_DAYS}|{_LEAP_DAY})"
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?"
_OFFSET = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_BYTE}(?:\\.{_BYTE}){{3}}"
_H16 = "[0-9a-f]{1,4}"
_LABEL = "[a-z][a-z0-9]{0,19}(?:-[a-z0-9]{1,19}){0,2}"
"""Without "--", which has rules of its own ("xn--"), and never as long as 63."""
_HOST = f"{_LABEL}(?:\\.{_LABEL}){{0,3}}"
_DOMAIN = f"(?:{_LABEL}\\.){{1,3}}[a-z]{{2,12}}"
_LOCAL = "[A-Za-z0-9_+-]{1,20}(?:\\.[A-Za-z0-9_+-]{1,20}){0,2}"
_PATH = "(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)*"
_QUERY = "(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2})*"
_TAIL = f"(?:\\?{_QUERY})?(?:#{_QUERY})?"
_URI = f"(?:https?|ftp)://{_DOMAIN}(?::[1-9][0-9]{{0,3}})?{_PATH}{_TAIL}"
_TIME_PART = (
    "T(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S)"
)
_DATE_PART = (
    "(?:[0-9]{1,4}Y(?:[0-9]{1,2}M(?:[0-9]{1,4}D)?)?|[0-9]{1,2}M(?:[0-9]{1,4}D)?|[0-9]{1,4}D)"
)


def _ipv6() -> str:
    forms = [f"(?:{_H16}:){{7}}{_H16}"]
    for before in range(8):
        for after in range(7 - before):
            left = f"{_H16}(?::{_H16}){{{before - 1}}}" if before else ""
            right = f"{_H16}(?::{_H16}){{{after - 1}}}" if after else ""
            forms.append(f"{left}::{right}")
    return "|".join(forms)


FORMATS = {
    "date": _DATE,
    "time": f"{_CLOCK}{_OFFSET}",
    "date-time": f"{_DATE}T{_CLOCK}{_OFFSET}",
    "duration": f"P(?:{_DATE_PART}(?:{_TIME_PART})?|{_TIME_PART}|[0-9]{{1,4}}W)",
    "email": f"{_LOCAL}@{_DOMAIN}",
    "idn-email": f"{_LOCAL}@{_DOMAIN}",
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _ipv6(),
    "uri": _URI,
    "iri": _URI,
    "uri-reference": f"(?:{_URI}|{_PATH}{_TAIL})",
    "iri-reference": f"(?:{_URI}|{_PATH}{_TAIL})",
    "uri-template": f"{_URI}|(?:/(?:[A-Za-z0-9._~-]|\\{{[A-Za-z][A-Za-z0-9_]*\\}})*)+",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    **{
        f"uuid{n}": f"[0-9a-f]{{8}}-[0-9a-f]{{4}}-{n}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"
        for n in (1, 3, 4, 5, 6, 7, 8)
    },
    "json-pointer": "(?:/(?:[^/~\\x00-\\x1f]|~[01])*)*",
    "relative-json-pointer": "[0-9](?:#|(?:/(?:[^/~\\x00-\\x1f]|~[01])*)*)",
    "regex": "[A-Za-z0-9 _-]*",
}
"""Format and the expression of all its strings."""
ANNOTATIONS = frozenset(
    {"password", "binary", "byte", "path", "file-path", "directory-path", "float", "double"}
)
"""Formats that say nothing about the text which a validator would check."""


@cache
def format_language(name: str) -> Language | None:
    """The strings of a format, or None if it is not one that is enforced."""
    pattern = FORMATS.get(name)
    if pattern is None:
        return None
    return whole(pattern)
