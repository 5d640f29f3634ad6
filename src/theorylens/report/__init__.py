"""Outcomes in, pages out: HTML, JSON, Markdown, a terminal table, pictures. Computes nothing and needs no torch."""

from ._html import html
from ._json import json_text, read_json, schema, write_json

__all__ = ["html", "json_text", "read_json", "schema", "write_json"]
