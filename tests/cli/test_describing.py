"""Commands about theorylens itself: init, list, explain."""

import re
import subprocess
import sys

import pytest


def test_init_writes_a_file_that_works_after_two_edits(run, place):
    ended = run("init", "mine.py")
    assert (ended.code, ended.out) == (0, "")
    assert "theorylens check mine.py:make" in ended.err
    path = place / "mine.py"
    text = path.read_text(encoding="utf-8")
    assert text.count("# EDIT ") == 2
    text = re.sub(r"net = \.\.\.  # EDIT 1.*", "net = __import__('torch').nn.Linear(4, 2)", text)
    text = re.sub(
        r"train, test = .*# EDIT 2.*", "from subject import data; train, test = data(0, 50), data(1, 60)", text
    )
    path.write_text(text, encoding="utf-8")
    ended = run("check", "mine.py:make")
    assert ended.code == 0
    assert "test\t60 rows, 60 units" in ended.out


def test_init_unedited_is_refused_in_one_sentence(run, place):
    run("init", "mine.py")
    # A process of its own: the run-time check of types in these tests would object first.
    command = [sys.executable, "-c", "from theorylens.cli import main; main()", "check", "mine.py:make"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "needed is a torch.nn.Module" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_init_leaves_an_existing_file_alone(run, place):
    before = (place / "subject.py").read_text()
    ended = run("init")
    assert ended.code == 2
    assert "subject.py exists and is left as it is" in ended.err
    assert (place / "subject.py").read_text() == before


def test_list_has_every_probe_with_its_question(run):
    from theorylens.auditing import PROBES

    rows = [line.split("\t") for line in run("list").out.splitlines()]
    assert [row[0] for row in rows] == [p.code for p in PROBES]
    assert all(row[3].endswith("?") for row in rows)
    assert "test" in rows[0][2].split(", ")


def test_list_can_be_narrowed_and_translated(run):
    codes = {line.split("\t")[0] for line in run("list", "--only", "landscape", "--lang", "zh").out.splitlines()}
    assert "TL101" in codes  # the headline is always in an audit
    assert codes - {"TL101"} == {c for c in codes if c.startswith("TL3")}
    assert "？" in run("list", "--only", "TL101", "--lang", "zh").out
    assert run("list", "--only", "landscap").code == 2


@pytest.fixture
def page(tmp_path, monkeypatch):
    path = tmp_path / "TL101.en.md"
    path.write_text("# TL101\n\nA *bound* on the error.\n", encoding="utf-8")
    monkeypatch.setattr("theorylens.cli._describing.pages", lambda: {"TL101": {"en": path}})


def test_explain_prints_the_page_as_it_is_on_a_pipe(run, page):
    assert run("explain", "tl101").out == "# TL101\n\nA *bound* on the error.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("TL100",), "did you mean TL101?"),
        (("sharpness",), "there are TL101."),
        (("TL101", "--lang", "zh"), "it is in en"),
    ],
)
def test_explain_without_a_page_is_wrong_usage(run, page, arguments, said):
    ended = run("explain", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_every_probe_has_a_theory_page_in_every_language():
    from theorylens.auditing import PROBES
    from theorylens.cli._theory import pages
    from theorylens.locale import LANGUAGES

    known = pages()
    assert {p.code: sorted(known.get(p.code, ())) for p in PROBES} == {p.code: sorted(LANGUAGES) for p in PROBES}
