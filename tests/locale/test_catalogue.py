"""The tool that keeps catalogues complete, on small trees of its own and on the real one."""

import importlib.util
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "catalogue.py"


def _tool():
    spec = importlib.util.spec_from_file_location("catalogue_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["catalogue_tool"] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()

SOURCE = '''
"""Doc."""
NAMED = "a module constant"
TEXTS = {True: "yes, {n}", False: "no, {n}"}

@probe(code="TL1")
def probe_it(subject):
    """What is asked?

    More.
    """
    text = ("implicit " "concatenation {x:.1%}")
    first = Message("a", text, x=1.0)
    second = Message("b", NAMED)
    third = Message("c", TEXTS[True], n=1)
    fourth = Message("d", "left" if first else "right")
    verdict, reason = (1, "unpacked one") if first else (2, "unpacked two")
    return Message("e", reason), [Message("f", t) for t in ("looped", "again")]

def estimate():
    return Estimate(value=1.0, unit="counted things"), Certificate(theorem="Some theorem", loss=name)
'''
EXPECTED = {
    "What is asked?", "implicit concatenation {x:.1%}", "a module constant", "yes, {n}", "no, {n}", "left", "right",
    "unpacked one", "unpacked two", "looped", "again", "counted things", "Some theorem",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "landscape").mkdir()
    (tmp_path / "landscape" / "_x.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "r.html.j2").write_text("<p>{{ _('Shown') }}</p>", encoding="utf-8")
    return tmp_path


def _fill(tree: Path, part: str, translations: dict[str, str]) -> None:
    path = tool.catalogue_path(tree, "zh", part)
    text = path.read_text(encoding="utf-8")
    for english, chinese in translations.items():
        text = text.replace(f'msgid "{english}"\nmsgstr ""', f'msgid "{english}"\nmsgstr "{chinese}"')
    path.write_text(text, encoding="utf-8")


def _fields(text: str) -> str:
    return "".join(f"{{{name}:{spec}}}" if spec else f"{{{name}}}" for name, _, spec in tool.placeholders(text))


def test_every_way_of_writing_a_template_is_found(tree):
    found = tool.collect(tree)
    assert set(found.parts["landscape"]) == EXPECTED
    assert set(found.parts["report"]) == {"Shown"}
    assert found.unresolved == []


@pytest.mark.parametrize(
    "call", ['Message("x", f"built {n}")', 'Message("x", parameter)', 'Message("x", make())', 'Message("x", text=1)']
)
def test_a_template_that_cannot_be_read_is_a_complaint_with_its_place(tree, call):
    (tree / "landscape" / "_y.py").write_text(f"def f(parameter, n):\n    return {call}\n", encoding="utf-8")
    assert [line.split(":")[:2] for line in tool.collect(tree).unresolved] == [["landscape/_y.py", "2"]]
    assert any("cannot read the template" in line for line in tool.problems(tree))


def test_missing_then_untranslated_then_complete(tree):
    assert any(line.startswith("zh/report.po: missing: 'Shown'") for line in tool.problems(tree))
    assert set(tool.update(tree)) == {"landscape.po", "report.po"}
    assert "zh/report.po: untranslated: 'Shown'" in tool.problems(tree)
    _fill(tree, "report", {"Shown": "显示"})
    _fill(tree, "landscape", {english: "甲" + _fields(english) for english in EXPECTED})
    assert tool.problems(tree) == []
    assert tool.update(tree) == []


def test_a_sentence_that_left_is_set_aside_and_comes_back_translated(tree):
    tool.update(tree)
    _fill(tree, "report", {"Shown": "显示"})
    template = tree / "report" / "r.html.j2"
    template.write_text("<p>{{ _('Other') }}</p>", encoding="utf-8")
    assert "zh/report.po: obsolete: 'Shown'" in tool.problems(tree)
    tool.update(tree)
    assert not any("Shown" in line for line in tool.problems(tree))
    template.write_text("<p>{{ _('Shown') }}</p>", encoding="utf-8")
    tool.update(tree)
    assert tool.entries(tool.load(tool.catalogue_path(tree, "zh", "report"), "zh"))["Shown"].string == "显示"


@pytest.mark.parametrize(
    ("english", "chinese", "fault"),
    [
        ("{n} of {m:.1%}", "{n} 之 {m:.2%}", "placeholders differ"),
        ("{n} of {m}", "{n}", "placeholders differ"),
        ("a, b", "甲,乙", "ASCII punctuation"),
        ("a. b", "甲. 乙", "ASCII punctuation"),
        ("a.", "甲.", "ASCII punctuation"),
        ("a", " ", "untranslated"),
    ],
)
def test_a_bad_translation_is_named(english, chinese, fault):
    message = tool.Message(english, chinese)
    assert [f for f in tool.faults(english, message) if f.startswith(fault)]


def test_numbers_and_codes_may_keep_their_ascii_points():
    assert tool.faults("a {x:.1f}", tool.Message("a {x:.1f}", "值为 3.5，{x:.1f}（TL101, TL102）")) == []


def test_every_sentence_of_the_library_is_translated():
    assert tool.problems() == []
