"""Make docs/from-the-tutorial.md and its Chinese twin from docs/coverage.toml.

tools/tutorial_page.py            write both pages
tools/tutorial_page.py --check    fail, and say so, when a page is not what the checklist makes
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
SECTIONS = {
    "1.1": ("PAC learning", "PAC 学习"),
    "1.2": ("VC dimension and Rademacher complexity", "VC 维与 Rademacher 复杂度"),
    "1.3": ("Uniform convergence", "一致收敛"),
    "1.4": ("The deep-generalisation mystery", "深度网络的泛化之谜"),
    "2.1": ("Manifold hypothesis", "流形假设"),
    "2.2": ("Distributed and hierarchical representations", "分布式与层次化表示"),
    "2.3": ("Guarantees for representations", "表示的理论保证"),
    "3.1": ("Critical points", "临界点"),
    "3.2": ("Saddles and escape", "鞍点与逃逸"),
    "3.3": ("Flat minima", "平坦极小值"),
    "4.1": ("Neural tangent kernel", "神经正切核"),
    "4.2": ("Wide networks", "宽网络"),
    "4.3": ("Kernels and generalisation", "核与泛化"),
    "5.1": ("Bias of the architecture", "架构的归纳偏置"),
    "5.2": ("Bias of the optimiser", "优化器的隐式偏置"),
    "5.3": ("The data distribution", "数据分布的影响"),
    "6.1": ("Phases of training", "训练阶段"),
    "6.2": ("Learning-rate schedules", "学习率调度"),
    "6.3": ("Convergence", "收敛"),
    "7.3": ("Theory and practice", "理论与实践"),
}


class Words(NamedTuple):
    """What one language's page says."""

    file: str
    title: str
    lead: str
    other: str
    heads: str
    index: str
    column: int
    note: str
    missing: str


ENGLISH = Words(
    file="from-the-tutorial.md",
    title="From the tutorial to the library",
    lead="Every class and method of the tutorial, in its order, with the name that does the work here. "
    "A name links to the file that implements it; the last column says what differs, and why. "
    "Classes of static methods have become functions of a chapter: `import theorylens as tl`, "
    "then `tl.<chapter>.<name>`.",
    other="[中文](from-the-tutorial.zh.md)",
    heads="| In the tutorial | Here | What differs |",
    index="Classes",
    column=0,
    note="note",
    missing="not done yet",
)
CHINESE = Words(
    file="from-the-tutorial.zh.md",
    title="从教程到库",
    lead="教程中的每个类和方法，按原来的顺序列出，旁边是本库中对应的名字。名字链接到实现它的文件，最后一列说明有何不同、为什么不同。"
    "只装静态方法的类在这里都变成了各章的函数：先 `import theorylens as tl`，再用 `tl.<章>.<名字>`。",
    other="[English](from-the-tutorial.md)",
    heads="| 教程中 | 本库中 | 有何不同 |",
    index="类",
    column=1,
    note="note_zh",
    missing="尚未完成",
)


def rows() -> list[Row]:
    """The rows that the page lists: classes, methods, and claims of the prose that are wrong."""
    entries: list[Row] = tomllib.loads((ROOT / "docs" / "coverage.toml").read_text(encoding="utf-8"))["row"]
    return [e for e in entries if e["kind"] in ("class", "method") or e["verdict"] == "idea-wrong"]


def home(name: str) -> str:
    """The file that implements the dotted public ``name``, relative to docs/."""
    package, attribute = name.rsplit(".", 1)
    thing = getattr(importlib.import_module(package), attribute)
    if inspect.ismodule(thing):
        file = thing.__file__
    else:
        thing = inspect.unwrap(thing)
        file = (
            inspect.getsourcefile(thing)
            if inspect.isclass(thing) or inspect.isfunction(thing)
            else importlib.import_module(package).__file__
        )
    assert file is not None, name
    return os.path.relpath(file, ROOT / "docs").replace(os.sep, "/")


def linked(name: str) -> str:
    """``name`` without the package, linking to its file."""
    return f"[`{name.removeprefix('theorylens.')}`]({home(name)})"


def line(row: Row, words: Words) -> str:
    """One row of the table."""
    called = row["id"].removeprefix("idea.")
    shown = f"**`{called}`**" if row["kind"] == "class" else f"`{called.split('.', 1)[-1]}`"
    here = linked(row["name"]) if row["status"] == "done" else words.missing
    return f"| {shown} | {here} | {row.get(words.note, row.get('reason', '')).replace('|', chr(92) + '|')} |"


def page(entries: Iterable[Row], words: Words) -> str:
    """The whole page of one language."""
    listed = list(entries)
    out = [f"# {words.title}", "", words.other, "", words.lead, "", f"**{words.index}**", ""]
    classes = [row for row in listed if row["kind"] == "class"]
    out += [f"- [{row['section']} `{row['id']}`](#s{row['section'].replace('.', '-')})" for row in classes]
    for section, titles in SECTIONS.items():
        chosen = [row for row in listed if row["section"] == section]
        if not chosen:
            continue
        out += ["", f'<a id="s{section.replace(".", "-")}"></a>', "", f"## {section} {titles[words.column]}", ""]
        out += [words.heads, "| --- | --- | --- |"]
        out += [line(row, words) for row in chosen]
    return "\n".join(out) + "\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them with what is there; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    entries = rows()
    unknown = {row["section"] for row in entries} - set(SECTIONS)
    if unknown:
        raise SystemExit(f"sections without a title: {sorted(unknown)}; add them to SECTIONS")
    stale = 0
    for words in (ENGLISH, CHINESE):
        file, text = ROOT / "docs" / words.file, page(entries, words)
        if check:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                print(f"{file.relative_to(ROOT)} is not what docs/coverage.toml makes; run tools/tutorial_page.py")
                stale += 1
        else:
            file.write_text(text, encoding="utf-8")
    return min(stale, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
