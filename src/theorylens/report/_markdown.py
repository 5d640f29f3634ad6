"""The summary as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from theorylens.locale import translator
from theorylens.results import Message, Record

from ._lines import Entry, lines
from ._terminal import SHAPES

LONGEST = 160  # characters of a reason
_MEANINGFUL = str.maketrans(
    {c: "\\" + c for c in "\\`*_{}[]()#|~$!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "@\u200b"}
)


def markdown(record: Record, lang: str = "en") -> str:
    """``record`` as Markdown: the answer, requirements, certificates and indicators in tables of their own."""
    translate = translator(lang)
    said = lines(record, translate)
    title = Message("markdown.title", "theorylens: {name}", name=escape(said.name)).render(translate)
    parts = [f"### {title}", *(f"**{escape(label)}** {escape(text)}" for label, text in said.answers)]
    heads = {
        "requirement": Message("head.requirement", "Requirement").render(translate),
        "code": Message("head.code", "Code").render(translate),
        "question": Message("head.question", "Question").render(translate),
        "estimate": Message("head.estimate", "Estimate").render(translate),
        "verdict": Message("head.verdict", "Verdict").render(translate),
        "why": Message("head.reason", "Reason").render(translate),
    }
    if said.requirements:
        rows = [(e.question, _verdict(e), e.reason) for e in said.requirements]
        parts.append(markdown_table((heads["requirement"], heads["verdict"], heads["why"]), rows))
    for title_of, entries in (
        (Message("markdown.certificates", "Certificates"), said.certificates),
        (Message("markdown.indicators", "Indicators and descriptions"), said.indicators),
    ):
        if entries:
            columns = (heads["code"], heads["question"], heads["estimate"], heads["verdict"], heads["why"])
            rows5 = [(e.code, e.question, e.estimate, _verdict(e), _cut(e.reason)) for e in entries]
            parts.append(f"**{title_of.render(translate)}**\n\n{markdown_table(columns, rows5)}")
    if said.missing:
        codes = ", ".join(f"{e.code} ({e.word})" for e in said.missing)
        parts.append(escape(Message("markdown.missing", "Not measured: {codes}", codes=codes).render(translate)))
    return "\n\n".join(parts) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub table; cells are escaped here."""
    drawn = ["| " + " | ".join(escape(h) for h in head) + " |", "|" + " --- |" * len(head)]
    drawn += ["| " + " | ".join(escape(c) for c in row) + " |" for row in rows]
    return "\n".join(drawn)


def escape(text: str) -> str:
    """``text`` as text: no markup, no HTML, no mention, one line."""
    return " ".join(text.translate(_MEANINGFUL).split())


def _verdict(entry: Entry) -> str:
    return f"{SHAPES[entry.verdict]} {entry.word}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
