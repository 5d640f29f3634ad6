"""The report's JSON: schema ``theorylens/report/1``, shipped beside this file as ``schema/report-1.json``."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from theorylens.results import Record, record_from_view, record_view

from ._files import write_text


def json_text(record: Record) -> str:
    """``record`` as JSON text; numbers that are not finite are the strings "nan", "inf", "-inf"."""
    return json.dumps(record_view(record), allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def write_json(record: Record, path: str | Path) -> Path:
    """Write ``record`` to ``path`` by atomic rename."""
    return write_text(path, json_text(record))


def read_json(path: str | Path) -> Record:
    """Read a record that `write_json` wrote.

    Raises
    ------
    ValueError
        When the file is not JSON, or not a report of this schema, or a field is missing.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        view = json.loads(text)
    except json.JSONDecodeError as fault:
        raise ValueError(f"{Path(path).name} is not JSON ({fault}); give a file written with --json") from fault
    if not isinstance(view, dict):
        raise ValueError(f"{Path(path).name} holds a {type(view).__name__}, not a theorylens report")
    try:
        return record_from_view(view)
    except KeyError as missing:
        raise ValueError(
            f"{Path(path).name} lacks the field {missing}; it was cut or edited, write it again"
        ) from missing


def schema() -> dict[str, Any]:
    """The JSON Schema of a report, draft 2020-12."""
    shipped = files(__package__) / "schema" / "report-1.json"
    return dict(json.loads(shipped.read_text(encoding="utf-8")))
