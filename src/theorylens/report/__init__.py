"""Outcomes in, pages out: HTML, JSON, Markdown, a terminal table, pictures. Computes nothing and needs no torch."""

from ._compare import ComparedRow, Comparison, Difference, compare, markdown_comparison, terminal_comparison
from ._html import html
from ._json import json_text, read_json, schema, write_json
from ._markdown import markdown
from ._report import Report, RequirementNotMet
from ._terminal import plain, terminal

__all__ = [
    "ComparedRow", "Comparison", "Difference", "Report", "RequirementNotMet", "compare", "html", "json_text",
    "markdown", "markdown_comparison", "plain", "read_json", "schema", "terminal", "terminal_comparison", "write_json",
]  # fmt: skip
