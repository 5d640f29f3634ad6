"""A sentence that can be said in any language later: an id, an English template, and the values that fill it."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

Translate = Callable[[str], str]
NO_BREAK = "\N{NO-BREAK SPACE}"
_POWER = re.compile(r"^(.*\d)e([+-]\d+)$")
WRITTEN_OUT = 6  # digits before the point up to which a rounded number is written without a power of ten
_NUMBER = re.compile(r"([+-]?)(\d+(?:\.\d+)?)")
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Message:
    """An identified sentence.

    Parameters
    ----------
    id
        Stable name, for instance ``"TL101.vacuous"``; never re-used for another sentence.
    text
        English template in ``str.format`` syntax; it is the gettext msgid. Numbers are formatted by the template
        (``{bound:.1%}``), so that the values stay numbers in JSON.
    values
        Numbers, names or further messages.

    >>> Message("TL101.found", "{errors} errors on {n} examples", errors=3, n=100).render()
    '3 errors on 100 examples'
    """

    __slots__ = ("_id", "_text", "_values")

    def __init__(self, id: str, text: str, /, **values: int | float | str | bool | Message) -> None:
        wanted = {name for _, name, _, _ in string.Formatter().parse(text) if name}
        if wanted != set(values):
            raise ValueError(
                f"message {id!r}: the template names {sorted(wanted)}, given were {sorted(values)}; make them one"
            )
        self._id = id
        self._text = text
        self._values: Mapping[str, int | float | str | bool | Message] = MappingProxyType(dict(values))

    @property
    def id(self) -> str:
        return self._id

    @property
    def text(self) -> str:
        return self._text

    @property
    def values(self) -> Mapping[str, int | float | str | bool | Message]:
        return self._values

    def refilled(self, **values: int | float | str | bool | Message) -> Message:
        """The same sentence with other values."""
        return type(self)(self._id, self._text, **values)

    def render(self, translate: Translate = str) -> str:
        """The sentence; ``translate`` maps an English template to one of the same placeholders."""
        filled: dict[str, Any] = {
            name: value.render(translate) if isinstance(value, Message) else value
            for name, value in self._values.items()
        }
        return _Formatter().vformat(translate(self._text), (), filled)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self._id, self._text, dict(self._values)) == (other._id, other._text, dict(other._values))

    def __hash__(self) -> int:
        return hash((self._id, self._text))

    def __repr__(self) -> str:
        return f"Message({self._id!r}, {self.render()!r})"

    def __str__(self) -> str:
        return self.render()


def _power(found: re.Match[str]) -> str:
    mantissa, exponent = found[1], int(found[2])
    if 0 <= exponent < WRITTEN_OUT and (plain := _NUMBER.fullmatch(mantissa)):
        return f"{plain[1]}{int(Decimal(plain[2]).scaleb(exponent)):,}"
    return f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}"


class _Formatter(string.Formatter):
    """``str.format`` with typography: a percentage keeps its sign beside it, only large powers of ten stay powers."""

    def format_field(self, value: Any, format_spec: str) -> str:
        shown = str(super().format_field(value, format_spec))
        if isinstance(value, int | float) and not isinstance(value, bool):
            if format_spec.endswith("%"):
                shown = shown.removesuffix("%") + NO_BREAK + "%"
            shown = _POWER.sub(_power, shown)
            if shown.startswith("-"):
                shown = "\N{MINUS SIGN}" + shown[1:]
        return shown

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        # Only plain names: a translated template must not reach into attributes of a value.
        if field_name not in kwargs:
            raise KeyError(field_name)
        return kwargs[field_name], field_name
