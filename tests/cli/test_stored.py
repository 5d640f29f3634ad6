"""Commands on stored reports: their output, and the exit codes 0, 1 and 2."""

import json

import pytest


@pytest.mark.parametrize(
    ("rule", "code", "word", "why"),
    [
        ("certificate <= 0.05", 0, "met", "TL101 is 0.0324"),
        ("certificate <= 0.0324", 0, "met", "0.0324"),
        ("certificate <= 0.03", 1, "not met", "TL101 is 0.0324"),
        ("TL301 <= 5", 0, "met", "TL301 is 4;"),
        ("landscape.eigenvalues > 4", 1, "not met", "TL301 is 4;"),
        ("TL401 <= 1", 1, "not met", "inconclusive"),
        ("TL601 <= 1", 1, "not met", "skipped: no history"),
        ("TL501 <= 1", 1, "not met", "crashed"),
    ],
)
def test_gate_compares_and_says_why(run, stored, rule, code, word, why):
    ended = run("gate", stored(), "--require", rule)
    met, text, reason = ended.out.rstrip("\n").split("\t")
    assert (ended.code, met, ended.err) == (code, word, "")
    assert text == rule
    assert why in reason


def test_gate_one_of_several_not_met_is_not_met(run, stored):
    ended = run("gate", stored(), "--require", "certificate <= 0.05", "--require", "TL301 <= 3")
    assert [line.split("\t")[0] for line in ended.out.splitlines()] == ["met", "not met"]
    assert ended.code == 1


def test_gate_without_rules_takes_those_of_the_report(run, stored):
    ended = run("gate", stored(stored=("TL301 <= 3",)))
    assert (ended.code, ended.out.split("\t")[:2]) == (1, ["not met", "TL301 <= 3"])
    ended = run("gate", stored())
    assert ended.code == 2
    assert "holds no requirements" in ended.err


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("certificat <= 1", "did you mean 'certificate'?"),
        ("TL999 <= 1", "unknown name 'TL999'"),
        ("TL301 is small", "cannot read the requirement"),
        ("TL301 <= nan", "needs a finite number"),
    ],
)
def test_gate_a_rule_that_cannot_be_read_is_wrong_usage(run, stored, rule, said):
    ended = run("gate", stored(), "--require", rule)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_gate_in_chinese(run, stored):
    assert run("gate", stored(), "--require", "TL301 <= 3", "--lang", "zh").out.startswith("未满足\tTL301 <= 3\t")


def test_gate_knows_codes_with_a_theory_page_that_were_not_measured(run, stored, monkeypatch):
    monkeypatch.setattr("theorylens.cli._stored.pages", lambda: {"TL777": {}})
    ended = run("gate", stored(), "--require", "TL777 <= 1")
    assert ended.code == 1
    assert "TL777 was not measured in this run" in ended.out


@pytest.mark.parametrize("command", [["gate"], ["render"], ["advise"], ["compare", "other.json"]])
@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is not JSON"), ("[1]", "holds a list"), ('{"schema": "theorylens/report/1"}', "lacks the field")],
)
def test_a_file_that_is_no_report_is_wrong_usage(run, tmp_path, stored, command, content, said):
    bad, good = tmp_path / "bad.json", stored("other.json")
    bad.write_text(content)
    others = [good if word.endswith(".json") else word for word in command]
    ended = run(others[0], bad, *others[1:])
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_a_file_that_is_missing_is_wrong_usage(run, tmp_path):
    ended = run("render", tmp_path / "none.json")
    assert ended.code == 2
    assert "does not exist" in " ".join(ended.err.split())


def test_render_writes_what_the_suffix_says_in_the_language_asked(run, stored, tmp_path):
    path = stored()
    assert run("render", path, "--lang", "zh", "--out", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.lstrip().startswith("<!doctype html>")
    assert '<html lang="zh' in page
    assert run("render", path, "--out", tmp_path / "r.md").code == 0
    assert (tmp_path / "r.md").read_text(encoding="utf-8").startswith("### theorylens: digits")


def test_render_without_a_file_shows_the_summary(run, stored):
    ended = run("render", stored())
    codes = [line.split("\t")[0] for line in ended.out.splitlines()]
    assert {"TL101", "TL301", "TL401", "TL601", "TL501"} <= set(codes)
    assert "\x1b" not in ended.out


@pytest.mark.parametrize("name", ["r.pdf", "missing/r.html"])
def test_render_names_the_file_it_cannot_write_before_it_reads(run, stored, tmp_path, name):
    ended = run("render", stored(), "--out", tmp_path / name)
    assert ended.code == 2
    assert ("must end with .html" in ended.err) or ("does not exist" in ended.err)


def test_compare_names_what_differs_and_is_quiet_about_what_does_not(run, stored):
    same = run("compare", stored("a.json"), stored("b.json")).out
    assert "differs" not in same
    different = run("compare", stored("a.json"), stored("c.json", sharpness=9.0))
    rows = [line for line in different.out.splitlines() if "differs" in line]
    assert (different.code, len(rows)) == (0, 1)
    assert "TL301" in rows[0]


def test_advise_lists_evidence_on_both_sides(run, stored):
    said = run("advise", stored()).out.splitlines()
    assert said == [
        "1. Train with shifts of one pixel.", "   For: TL301 Error rises to 46 %.",
        "   Against: nothing measured here", "   Effect: untested", "   Command that tests this: theorylens audit x",
    ]  # fmt: skip
    assert run("advise", stored("none.json", advice=False)).out == "Nothing measured here asks for a change.\n"
    assert "支持：" in run("advise", stored(), "--lang", "zh").out


def test_hostile_names_cannot_move_the_cursor(run, stored, view):
    path = stored()
    record = view(path)
    record["subject"]["name"] = "\x1b[2J\x08gone"
    record["advice"][0]["command"] = "rm\r\n\x1b[31m\x08 -rf"
    path.write_text(json.dumps(record))
    for command in ("advise", "render"):
        assert not set("\x1b\x08\r") & set(run(command, path).out)
    assert "Command that tests this: rm [31m -rf\n" in run("advise", path).out


def test_advise_can_set_claims_of_theory_beside_the_report(run, stored):
    said = run("advise", stored(), "--claims").out
    assert "A network with more parameters than examples overfits. In general: false." in said
    assert "Flat minima generalise better. In general: conditional." in said
    assert "not measured." in said
    assert "一般而言" in run("advise", stored(), "--claims", "--lang", "zh").out
