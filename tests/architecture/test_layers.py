"""The parts of the library and which way imports point, as tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import theorylens

ROOT = Path(theorylens.__file__).parent
CHAPTERS = ("representation", "landscape", "kernels", "bias", "dynamics", "generalization", "frontier")
BELOW_CHAPTERS = {"results", "numerics", "core", "training", "reference"}
ALLOWED = {
    "results": set(),
    "locale": set(),
    "numerics": {"results"},
    "core": {"numerics", "results"},
    "training": {"core", "numerics", "results"},
    "reference": {"core", "numerics", "results", "training"},
    "demos": {"core", "numerics", "results", "training"},
    "monitor": {*CHAPTERS, *BELOW_CHAPTERS},
    "advice": {"results"},
    "report": {"results", "locale", "theory"},
    "auditing": {*CHAPTERS, *BELOW_CHAPTERS, "advice", "report"},
    "integrations": {"auditing", "report", "results", "core"},
    "theory": set(),
    **{
        chapter: {"core", "numerics", "results", "training", *CHAPTERS[:i]} for i, chapter in enumerate(CHAPTERS)
    },
}  # fmt: skip
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)
TORCHLESS = ("results", "report", "locale", "advice", "integrations")


def part_of(path):
    return path.relative_to(ROOT).parts[0]


def imported(path):
    """Parts of the library that a file imports, whichever way it says so."""
    return imported_by(path.read_text(encoding="utf-8"), path)


def imported_by(source, path):
    found, package = set(), ["theorylens", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [module] if module != "theorylens" else [f"theorylens.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            words = name.split(".")
            if words[0] == "theorylens" and len(words) > 1:
                found.add(words[1])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    part = part_of(path)
    if part == "cli":
        return  # the top: anything may be imported, inside the command that needs it
    assert imported(path) <= ALLOWED[part] | {part, "__version__", "_first_use"}


@pytest.mark.parametrize("line", ["from theorylens.landscape import trace", "from ..core import Subject"])
def test_a_wrong_import_would_be_seen(line):
    path = ROOT / "numerics" / "objective.py"
    assert not imported_by(line, path) <= ALLOWED["numerics"] | {"numerics"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_chapters_import_only_public_names_of_other_chapters(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level or not (node.module or "").startswith("theorylens."):
            continue
        words = node.module.split(".")
        if words[1] in CHAPTERS and words[1] != part_of(path):
            private = [w for w in (*words[2:], *(a.name for a in node.names)) if w.startswith(("_", "probe_"))]
            assert not private, f"{path.name} imports {private} of another chapter"


def test_only_the_report_knows_matplotlib():
    users = {
        part_of(p) for p in FILES if re.search(r"^\s*(import|from) matplotlib", p.read_text(encoding="utf-8"), re.M)
    }
    assert users <= {"report"}


def test_no_module_hides_behind_a_name_it_exports():
    for path in FILES:
        init = path.parent / "__init__.py"
        if path.name == "__init__.py" or not init.exists():
            continue
        names = set()
        for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names |= {a.asname or a.name for a in node.names}
        assert path.stem not in names, f"{path.parent.name}/{path.stem}.py has the name of an object of its package"


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "base", "misc"])
def test_no_module_without_a_subject(word):
    assert not [p for p in FILES if p.stem.strip("_") == word]


def test_files_stay_small():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 300}
    excused = {name for name in long if "300 lines" in (ROOT / name).read_text(encoding="utf-8")[:2000]}
    assert set(long) <= excused, f"over 300 lines without a reason in the docstring: {long}"


def test_every_probe_is_listed_once_and_codes_follow_their_chapter():
    from theorylens.auditing import PROBES
    from theorylens.core import Probe

    listed = {p.code: p for p in PROBES}
    assert len(listed) == len(PROBES)
    defined = {}
    for path in FILES:
        if part_of(path) in CHAPTERS and path.name != "__init__.py":
            module = ".".join(["theorylens", *path.relative_to(ROOT).with_suffix("").parts])
            __import__(module)
            for value in vars(sys.modules[module]).values():
                if isinstance(value, Probe):
                    defined[value.code] = value
    assert set(defined) == set(listed)
    digit = {"generalization": "1", "representation": "2", "landscape": "3", "kernels": "4", "bias": "5",
             "dynamics": "6", "frontier": "7"}  # fmt: skip
    for p in PROBES:
        assert p.code[2] == digit[p.chapter], p.code


def test_every_chapter_measures_something():
    from theorylens.auditing import PROBES

    assert {p.chapter for p in PROBES} == set(CHAPTERS)


@pytest.mark.parametrize("part", TORCHLESS)
def test_parts_that_only_speak_do_not_import_torch(part):
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError('torch is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
        f"import theorylens.{part}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
