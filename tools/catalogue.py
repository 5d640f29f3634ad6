"""Keep the gettext catalogues complete: what the sources say, what the .po files lack.

    python tools/catalogue.py [PART ...]     add missing msgids, set obsolete ones aside (#~; --prune drops them)
    python tools/catalogue.py --check        exit 1 and list what is missing, untranslated or mismatched

A part is a package of ``src/theorylens`` (or ``cli``); its catalogue is ``locale/<lang>/LC_MESSAGES/<part>.po``.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment

ROOT = Path(__file__).resolve().parent.parent / "src" / "theorylens"
TARGETS = ("zh",)
# The decoder builds messages from a report's JSON; their templates are collected where they were written.
DECODERS = {"results/_json.py"}
# Words that travel as plain strings in results and are translated when drawn.
WORDS = {"Estimate": {"unit"}, "Certificate": {"theorem", "loss"}}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Found:
    """Msgids of each part with the files that use them, and the Messages whose template could not be read."""

    parts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)

    def add(self, part: str, text: str, place: str) -> None:
        places = self.parts.setdefault(part, {}).setdefault(text, [])
        if place not in places:
            places.append(place)


def collect(root: Path = ROOT) -> Found:
    """Read every source and template below ``root``."""
    found = Found()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root).as_posix()
        part = relative.split("/")[0].removesuffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for text in _questions(tree):
            found.add(part, text, relative)
        for text, line in _templates(tree):
            if text is not None:
                found.add(part, text, relative)
            elif relative not in DECODERS:
                found.unresolved.append(
                    f"{relative}:{line}: cannot read the template of this Message; give a literal, or a name or a"
                    " dict of literals assigned in the same function or module"
                )
    environment = Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    for path in sorted(root.rglob("*.j2")):
        relative = path.relative_to(root).as_posix()
        for _, _, text in environment.extract_translations(path.read_text(encoding="utf-8")):  # type: ignore[attr-defined]
            found.add(relative.split("/")[0], str(text), relative)
    return found


def _questions(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and any(
            _name(d) == "probe" for d in node.decorator_list if isinstance(d, ast.Call)
        ):
            doc = ast.get_docstring(node)
            if doc:
                yield doc.splitlines()[0].strip()


def _templates(tree: ast.Module) -> Iterator[tuple[str | None, int]]:
    scopes = {child: node for node in ast.walk(tree) if isinstance(node, Function) for child in ast.walk(node)}
    module = _bindings(tree, stop_at_functions=True)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if (
                keyword.arg in WORDS.get(_name(node), ())
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value
            ):
                yield str(keyword.value.value), node.lineno
        if _name(node) == "Message":
            local = _bindings(scopes[node]) if node in scopes else {}
            texts = _texts(node.args[1], local, module) if len(node.args) > 1 else None
            yield from ((text, node.lineno) for text in (texts or [None]))


def _name(call: ast.Call) -> str:
    function = call.func
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


Bindings = dict[str, list[ast.expr]]


def _bindings(scope: ast.AST, *, stop_at_functions: bool = False) -> Bindings:
    """Every expression that a plain name is bound to in ``scope``: assignments, unpacking, loops over literals."""
    bound: Bindings = {}

    def bind(target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            bound.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple):
            for choice in [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]:
                if isinstance(choice, ast.Tuple) and len(choice.elts) == len(target.elts):
                    for one, its in zip(target.elts, choice.elts, strict=True):
                        bind(one, its)

    pending = list(ast.iter_child_nodes(scope))
    while pending:
        node = pending.pop(0)
        if stop_at_functions and isinstance(node, Function):
            continue
        match node:
            case ast.Assign():
                for target in node.targets:
                    bind(target, node.value)
            case ast.AnnAssign(value=ast.expr()) | ast.NamedExpr():
                bind(node.target, node.value)  # type: ignore[arg-type]
            case ast.For(iter=ast.Tuple() | ast.List()) | ast.comprehension(iter=ast.Tuple() | ast.List()):
                for item in node.iter.elts:
                    bind(node.target, item)
        pending.extend(ast.iter_child_nodes(node))
    return bound


def _texts(node: ast.expr, local: Bindings, module: Bindings) -> list[str] | None:
    """All strings ``node`` can be, None when one of them cannot be read."""
    match node:
        case ast.Constant(value=str()):
            return [str(node.value)]
        case ast.Name():
            choices = local.get(node.id) or module.get(node.id)
        case ast.IfExp():
            choices = [node.body, node.orelse]
        case ast.BoolOp():
            choices = node.values
        case ast.Subscript(value=ast.Name()):
            holders = local.get(node.value.id) or module.get(node.value.id) or []
            choices = [v for h in holders for v in (h.values if isinstance(h, ast.Dict) else getattr(h, "elts", []))]
        case ast.BinOp(op=ast.Add()):
            left, right = _texts(node.left, local, module), _texts(node.right, local, module)
            return None if left is None or right is None else [a + b for a in left for b in right]
        case _:
            choices = None
    if not choices:
        return None
    read = [_texts(choice, {k: v for k, v in local.items() if v is not choices}, module) for choice in choices]
    return None if any(r is None for r in read) else [text for r in read if r is not None for text in r]


# ------------------------------------------------------------------------------------------------------- catalogues
def catalogue_path(root: Path, lang: str, part: str) -> Path:
    return root / "locale" / lang / "LC_MESSAGES" / f"{part}.po"


def load(path: Path, lang: str) -> Catalog:
    if not path.exists():
        return _empty(lang, path.stem)
    with path.open("rb") as stream:
        return read_po(stream, locale=lang)


def _empty(lang: str, part: str, old: Catalog | None = None) -> Catalog:
    people = "theorylens authors"
    return Catalog(
        locale=lang, project="theorylens", version="1", charset="utf-8", fuzzy=False,
        header_comment=f"# theorylens, {part}",
        creation_date=old.creation_date if old else None, revision_date=old.revision_date if old else None,
        msgid_bugs_address=people, last_translator=people, language_team=people,
    )  # fmt: skip


def entries(catalogue: Catalog) -> dict[str, Message]:
    return {str(m.id): m for m in catalogue if m.id}


def problems(root: Path = ROOT) -> list[str]:
    """Everything that keeps a translation from being complete, one line each."""
    found = collect(root)
    lines = list(found.unresolved)
    for lang in TARGETS:
        folder = root / "locale" / lang / "LC_MESSAGES"
        for part in sorted(set(found.parts) | {p.stem for p in folder.glob("*.po")}):
            have = entries(load(catalogue_path(root, lang, part), lang))
            wanted = found.parts.get(part, {})
            head = f"{lang}/{part}.po: "
            lines += [f"{head}missing: {text!r} ({', '.join(wanted[text])})" for text in wanted if text not in have]
            lines += [f"{head}obsolete: {text!r}" for text in have if text not in wanted]
            for text, message in have.items():
                lines += [head + fault for fault in faults(text, message)]
    return lines


HAN = r"[\u3400-\u9fff]"
ASCII_STOP = re.compile(rf"{HAN}\s*[,.;!?]\s*{HAN}|{HAN}[,.;!?]$")


def faults(text: str, message: Message) -> list[str]:
    """What is wrong with one translation."""
    translated = str(message.string or "")
    if not translated.strip():
        return [f"untranslated: {text!r}"]
    found = []
    if message.fuzzy:
        found.append(f"marked fuzzy: {text!r}")
    if placeholders(text) != placeholders(translated):
        found.append(
            f"placeholders differ: {text!r} has {placeholders(text)}, its translation {placeholders(translated)}"
        )
    if ASCII_STOP.search(translated):
        found.append(f"ASCII punctuation between Han characters: {translated!r}")
    return found


def placeholders(text: str) -> list[tuple[str, str, str]]:
    """Names, conversions and format specs, as a sorted set: a language may repeat or reorder them."""
    try:
        fields = {
            (name, conversion or "", spec or "")
            for _, name, spec, conversion in string.Formatter().parse(text)
            if name is not None
        }
    except ValueError as fault:
        return [("unreadable", str(fault), "")]
    return sorted(fields)


def update(root: Path = ROOT, parts: list[str] | None = None, *, prune: bool = False) -> list[str]:
    """Bring the catalogues in line with the sources; the names of those that changed."""
    found, changed = collect(root), []
    for complaint in found.unresolved:
        print(complaint, file=sys.stderr)
    for lang in TARGETS:
        for part in parts or sorted(found.parts):
            path = catalogue_path(root, lang, part)
            old = load(path, lang)
            fresh = _empty(lang, part, old)
            known = {**{str(m.id): m for m in old.obsolete.values()}, **entries(old)}
            wanted = found.parts.get(part, {})
            for text, places in wanted.items():
                before = known.get(text)
                fresh.add(text, before.string if before else "", locations=[(p, None) for p in places],
                          user_comments=before.user_comments if before else ())  # fmt: skip
            if not prune:
                fresh.obsolete.update({k: m for k, m in known.items() if k not in wanted})
            written = io.BytesIO()
            write_po(written, fresh, width=110, include_lineno=False)
            if set(entries(old)) != set(wanted) or (prune and old.obsolete):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(written.getvalue().rstrip(b"\n") + b"\n")
                changed.append(path.name)
    return changed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="parts to update; all without")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is missing")
    parser.add_argument(
        "--prune", action="store_true", help="drop obsolete entries instead of keeping them as comments"
    )
    options = parser.parse_args(arguments)
    if options.check:
        lines = [
            x
            for x in problems()
            if not options.parts or any(f"/{p}.po:" in x or x.startswith(f"{p}/") for p in options.parts)
        ]
        print("\n".join(lines) or "catalogues are complete")
        return 1 if lines else 0
    changed = update(parts=options.parts or None, prune=options.prune)
    print("\n".join(changed) or "nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
