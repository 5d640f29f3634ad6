"""Results as plain data and back. Numbers that are not finite become strings; arrays may go to a store of their own."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _advice, _estimate, _outcome, _payload, _record, _result
from ._message import Message

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_LATER = {"p_values", "otherwise"}  # fields of results that reports of this schema were written without
_UNIONS: dict[str, type] = {  # members of a union are told apart by their tag
    c.__name__: c
    for c in (
        _estimate.Exact, _estimate.Statistical, _estimate.Enclosure, _estimate.Unknown,
        *_payload.PAYLOADS, _outcome.Done, _outcome.Skipped, _outcome.Crashed,
    )
}  # fmt: skip


def to_plain(value: object, arrays: Arrays | None = None) -> Any:
    """``value`` as JSON types. With ``arrays``, arrays are put there and replaced by ``{"array": key}``."""
    match value:
        case Message():
            return {"id": value.id, "text": value.text, "values": to_plain(dict(value.values), arrays)}
        case Enum():
            return value.value
        case bool() | None | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case np.ndarray():
            if arrays is None:
                return [to_plain(x) for x in value.tolist()]
            key = f"a{len(arrays)}"
            arrays[key] = value
            return {"array": key}
        case Mapping():
            return {str(k): to_plain(v, arrays) for k, v in value.items()}
        case tuple() | list():
            return [to_plain(v, arrays) for v in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        name = type(value).__name__
        return {"type": name, **plain} if name in _UNIONS else plain
    raise TypeError(f"{type(value).__name__} has no place in a report; use numbers, words, arrays or the result types")


def from_plain(kind: type[T], plain: Any, arrays: Mapping[str, NDArray[Any]] | None = None) -> T:
    """The inverse of `to_plain` for the dataclass or union member ``kind``."""
    return typing.cast(T, _decode(kind, plain, arrays or {}))


def _decode(hint: Any, plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Message:
        values = {k: _value(v, arrays) for k, v in plain["values"].items()}
        return Message(plain["id"], plain["text"], **values)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, plain, arrays)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_decode(args[0], p, arrays) for p in plain)
        return tuple(_decode(a, p, arrays) for a, p in zip(args, plain, strict=True))
    if origin is np.ndarray or hint is np.ndarray:
        if isinstance(plain, dict):
            return arrays[plain["array"]]
        integers = args and "int" in str(args[1])
        return np.asarray(_floats(plain), dtype=np.int64 if integers else np.float64)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {k: _decode(args[1], v, arrays) for k, v in plain.items()}
    if origin is typing.Literal:
        return plain
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(plain)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return hint(**{k: _decode(hints[k], v, arrays) for k, v in plain.items() if k in known})
    if hint is float:
        return _SPECIAL[plain] if isinstance(plain, str) else float(plain)
    return plain


def _decode_union(args: tuple[Any, ...], plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if plain is None:
        return None
    if isinstance(plain, dict) and "type" in plain:
        return _decode(_UNIONS[plain["type"]], {k: v for k, v in plain.items() if k != "type"}, arrays)
    options = [a for a in args if a is not type(None)]
    if len(options) == 1:
        return _decode(options[0], plain, arrays)
    if isinstance(plain, str) and float not in options:
        return plain  # a name, even one that spells a number
    return _value(plain, arrays)


def _value(plain: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """A cell, a setting or a value of a message: the JSON type says what it is."""
    if isinstance(plain, dict):
        return _decode(Message, plain, arrays)
    return _SPECIAL.get(plain, plain) if isinstance(plain, str) else plain


def _floats(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_floats(p) for p in plain]
    return _SPECIAL[plain] if isinstance(plain, str) else plain


def estimate_view(estimate: _estimate.Estimate) -> dict[str, Any]:
    """An estimate as readers of the JSON want it: one flat object with value, interval, level and method."""
    u = estimate.uncertainty
    return {
        "value": to_plain(estimate.value),
        "uncertainty": type(u).__name__.lower(),
        "interval": [to_plain(u.lower), to_plain(u.upper)]
        if isinstance(u, _estimate.Statistical | _estimate.Enclosure)
        else None,
        "level": u.level if isinstance(u, _estimate.Statistical) else None,
        "method": to_plain(u.method) if isinstance(u, _estimate.Statistical) else None,
        "why": to_plain(u.why) if isinstance(u, _estimate.Enclosure | _estimate.Unknown) else None,
        "unit": estimate.unit,
        "trouble": to_plain(estimate.trouble),
    }


def estimate_from_view(view: Mapping[str, Any]) -> _estimate.Estimate:
    """The inverse of `estimate_view`."""
    lower, upper = (_decode(float, x, {}) for x in view["interval"] or (0.0, 0.0))
    match view["uncertainty"]:
        case "exact":
            u: _estimate.Uncertainty = _estimate.Exact()
        case "statistical":
            u = _estimate.Statistical(
                lower=lower, upper=upper, level=view["level"], method=_decode(Message, view["method"], {})
            )
        case "enclosure":
            u = _estimate.Enclosure(lower=lower, upper=upper, why=_decode(Message, view["why"], {}))
        case "unknown":
            u = _estimate.Unknown(why=_decode(Message, view["why"], {}))
        case other:
            raise ValueError(f"unknown uncertainty {other!r}; known: exact, statistical, enclosure, unknown")
    trouble = None if view["trouble"] is None else _decode(Message, view["trouble"], {})
    return _estimate.Estimate(
        value=_decode(float, view["value"], {}), uncertainty=u, trouble=trouble, unit=view["unit"]
    )


def outcome_view(outcome: _outcome.Outcome, arrays: Arrays | None = None) -> dict[str, Any]:
    """One entry of ``results`` in the report's JSON: the fields a gate or a notebook reads are on the first level."""
    about = outcome.about
    head = {"code": about.code, "probe": about.name, "question": about.question}
    match outcome:
        case _outcome.Skipped():
            return {**head, "outcome": "skipped", "reason": to_plain(outcome.reason)}
        case _outcome.Crashed():
            return {
                **head, "outcome": "crashed", "error": outcome.error, "traceback": outcome.traceback,
                "seconds": outcome.seconds,
            }  # fmt: skip
        case _outcome.Done():
            r = outcome.result
            rest = {
                f.name: to_plain(getattr(r, f.name), arrays)
                for f in dataclasses.fields(r)
                if f.name not in {"code", "estimate", "controls"}
            }
            controls = {c.role: {"name": to_plain(c.name), "estimate": estimate_view(c.estimate)} for c in r.controls}
            view = estimate_view(r.estimate)
            return {
                **head, "outcome": "done", "cached": outcome.cached, "estimate": view, "trouble": view["trouble"],
                "controls": controls, **rest,
            }  # fmt: skip


def outcome_from_view(view: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> _outcome.Outcome:
    """The inverse of `outcome_view`."""
    about = _outcome.About(code=view["code"], name=view["probe"], question=view["question"])
    match view["outcome"]:
        case "skipped":
            return _outcome.Skipped(about=about, reason=_decode(Message, view["reason"], {}))
        case "crashed":
            return _outcome.Crashed(
                about=about, error=view["error"], traceback=view["traceback"], seconds=view["seconds"]
            )
        case "done":
            hints = typing.get_type_hints(_result.Result)
            fields = {f.name for f in dataclasses.fields(_result.Result)} - {"code", "estimate", "controls"}
            rest = {k: _decode(hints[k], view[k], arrays or {}) for k in fields - _LATER | fields & _LATER & set(view)}
            controls = tuple(
                _result.Control(
                    role=role,
                    name=_decode(Message, c["name"], {}),
                    estimate=estimate_from_view(c["estimate"]),
                )
                for role, c in view["controls"].items()
            )
            result = _result.Result(
                code=view["code"], estimate=estimate_from_view(view["estimate"]), controls=controls, **rest
            )
            return _outcome.Done(about=about, result=result, cached=view["cached"])
        case other:
            raise ValueError(f"unknown outcome {other!r}; known: done, skipped, crashed")


def record_view(record: _record.Record) -> dict[str, Any]:
    """The report's JSON: schema ``theorylens/report/1``, additions only."""
    headline = record.result(record.headline) if record.headline else None
    certificate = headline.certificate if headline else None
    return {
        "schema": _record.SCHEMA,
        "subject": to_plain(record.subject),
        "run": to_plain(record.run),
        "headline": {
            "code": record.headline,
            "bound": to_plain(certificate.bound) if certificate else None,
            "delta": certificate.delta if certificate else None,
        },
        "results": [outcome_view(o) for o in record.outcomes],
        "requirements": to_plain(record.requirements),
        "advice": to_plain(record.advice),
        "exit_code": record.exit_code,
    }


def record_from_view(view: Mapping[str, Any]) -> _record.Record:
    """Read a report's JSON back.

    Raises
    ------
    ValueError
        When ``view`` is not a report of this schema.
    """
    if view.get("schema") != _record.SCHEMA:
        raise ValueError(
            f"this is not a theorylens report: schema is {view.get('schema')!r}, needed is {_record.SCHEMA!r}; "
            "give a file written by 'theorylens audit --json'"
        )
    return _record.Record(
        subject=from_plain(_record.SubjectFacts, view["subject"]),
        run=from_plain(_record.RunFacts, view["run"]),
        outcomes=tuple(outcome_from_view(v) for v in view["results"]),
        headline=view["headline"]["code"],
        requirements=tuple(from_plain(_record.Checked, r) for r in view["requirements"]),
        advice=tuple(from_plain(_advice.Recommendation, a) for a in view["advice"]),
        exit_code=view["exit_code"],
    )
