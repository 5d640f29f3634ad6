import builtins
import io
import re

import pytest
import rich.console
from matplotlib.figure import Figure

from theorylens.report import (
    Difference,
    Report,
    RequirementNotMet,
    compare,
    html,
    json_text,
    markdown,
    markdown_comparison,
    plain,
    terminal,
    terminal_comparison,
)


@pytest.fixture
def report(record):
    return Report(record)


def printed(renderable, width=160):
    out = io.StringIO()
    rich.console.Console(file=out, width=width, force_terminal=False).print(renderable)
    return out.getvalue()


def test_a_result_is_found_by_code_and_by_name(report):
    assert report["TL101"].certificate.n == 597
    assert report["landscape.stability"].code == "TL310"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("TL420", "TL420 was skipped: would take about 140 s; use --budget 4m"),
        ("TL330", "TL330 crashed: FloatingPointError: loss is inf"),
        ("TL102", r"no probe 'TL102' in this report; did you mean 'TL1\d+'"),
        ("zzz", "no probe 'zzz' in this report; measured were TL101, "),
    ],
)
def test_what_has_no_result_says_why(report, code, why):
    with pytest.raises(KeyError, match=why):
        report[code]


def test_the_suffix_is_the_format(report, record, tmp_path):
    assert report.save(tmp_path / "r.html").read_text(encoding="utf-8") == html(record)
    assert report.save(tmp_path / "zh.HTM", lang="zh").read_text(encoding="utf-8") == html(record, "zh")
    assert report.save(tmp_path / "r.json").read_text(encoding="utf-8") == json_text(record)
    assert report.save(str(tmp_path / "r.md")).read_text(encoding="utf-8") == markdown(record)
    again = Report.load(tmp_path / "r.json", lang="zh")
    assert again["TL101"].certificate == report["TL101"].certificate
    with pytest.raises(ValueError, match=r"cannot tell the format of 'r\.pdf'; end it with \.html"):
        report.save(tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()


def test_an_unknown_language_is_refused_at_once(record, report, tmp_path):
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        Report(record, lang="xx")
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        report.save(tmp_path / "r.html", lang="xx")
    assert list(tmp_path.iterdir()) == []


def test_requirements_that_are_met_say_nothing(report):
    report.require("certificate <= 0.05", "TL310 <= 0.25", "representation.two_nn >= 4")
    report.require()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("certificate <= 0.03", "the unfavourable end of TL101 is 0.03236; demanded is <= 0.03"),
        ("TL310 <= 0.24", "the unfavourable end of TL310 is 0.25"),  # the value 0.21 would do
        ("TL301 <= 100", "TL301 is inconclusive"),
        ("TL420 <= 1", "TL420 was skipped"),
        ("TL330 <= 1", "TL330 crashed"),
    ],
)
def test_a_requirement_that_is_not_met_says_why(report, text, why):
    with pytest.raises(RequirementNotMet, match=re.escape(why)):
        report.require("certificate <= 0.5", text)


def test_all_unmet_requirements_are_listed(report):
    with pytest.raises(AssertionError, match="2 of 3 requirements not met") as caught:
        report.require("certificate <= 0.01", "TL310 <= 0.5", "TL420 <= 1")
    assert str(caught.value).count("\n") == 2


def test_an_unknown_name_is_a_mistake_not_an_unmet_requirement(report):
    with pytest.raises(ValueError, match="unknown name 'certificat'"):
        report.require("certificat <= 0.05")


def test_a_frame_has_a_row_for_every_probe(report, record):
    frame = report.to_frame()
    assert list(frame.index) == [o.about.code for o in record.outcomes]
    assert frame.loc["TL401", ["value", "lower", "upper", "level"]].tolist() == [0.567, 0.529, 0.601, 0.95]
    assert frame.loc["TL420", "outcome"] == "skipped"
    assert frame.loc["TL330", "reason"] == "FloatingPointError: loss is inf"
    assert set(frame.outcome) == {"done", "skipped", "crashed"}


def test_without_pandas_the_extra_is_named(report, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"theorylens\[frame\]"):
        report.to_frame()


def test_a_picture_can_be_drawn_on_axes_of_ones_own(report):
    ax = Figure().add_subplot()
    assert report.plot("TL310", ax) is ax
    assert len(ax.get_lines()) >= 2
    assert len(report.plot("TL401", panel=2).get_lines()) == len(ax.get_lines())
    with pytest.raises(ValueError, match="TL130 has 0 pictures, asked for was number 0"):
        report.plot("TL130")


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(report):
    shown = report._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert "<script" not in shown


def test_the_short_form_counts(report):
    assert repr(report) == "<Report 'digits-conv': 12 results, 2 fail, 2 not measured>"


def test_the_terminal_says_the_answer_and_every_probe(report, record):
    text = printed(report)
    assert "At most 3.24" in text
    assert all(o.about.code in text for o in record.outcomes)
    assert text.index("Certificates:") < text.index("Indicators and descriptions") < text.index("Not measured")
    assert "对同类的新样本" in printed(report.summary("zh"))


def test_the_plain_form_is_one_line_a_probe(record):
    text = plain(record)
    rows = [line.split("\t") for line in text.splitlines()]
    assert {r[0] for r in rows} >= {o.about.code for o in record.outcomes}
    assert len(rows) == 3 + len(record.outcomes) + len(record.requirements)


def test_names_cannot_move_the_cursor_or_become_markup(made, hostile):
    subject = made.dataclasses.replace(made.make_record().subject, name="[red]x[/red]\x1b[2J\n[link=http://x]y")
    evil = made.make_record(subject=subject)
    shown = printed(terminal(evil))
    assert "[red]x[/red]" in shown
    assert "\x1b" not in plain(hostile)
    assert made.HOSTILE.split()[0] in printed(terminal(hostile), width=400)


def test_the_markdown_is_short_and_has_the_tables_apart(record):
    text = markdown(record)
    assert len(text) < 6000
    assert text.count("| --- | --- | --- | --- | --- |") == 2
    assert "3.24" in text
    assert r"TL420 \(skipped\)" in text


def test_markdown_of_a_hostile_record_has_no_markup_of_its_own(hostile):
    text = markdown(hostile)
    assert "<" not in text
    assert not re.search(r"(?<!\\)[`$]", text)
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6)


# ------------------------------------------------------------------------------------------------------ comparison
def test_a_report_does_not_differ_from_itself(record):
    rows = compare(record, record).rows
    assert {r.difference for r in rows} == {Difference.WITHIN, Difference.UNKNOWN}
    assert {r.code for r in rows if r.difference is Difference.UNKNOWN} == {"TL101", "TL104", "TL110", "TL111", "TL601"}
    assert not any(r.verdict_changed for r in rows)


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((0.5, 0.4, 0.6), (0.8, 0.7, 0.9), Difference.DIFFERS),
        ((0.8, 0.7, 0.9), (0.5, 0.4, 0.6), Difference.DIFFERS),
        ((0.5, 0.4, 0.6), (0.65, 0.6, 0.7), Difference.WITHIN),  # the ends touch
        ((0.5, 0.5, 0.5), (0.5, 0.4, 0.6), Difference.WITHIN),
        ((0.5, 0.4, float("inf")), (0.3, float("-inf"), 0.39), Difference.DIFFERS),
        ((0.5, 0.4, float("inf")), (0.3, float("-inf"), 0.41), Difference.UNKNOWN),
    ],
)
def test_numbers_differ_when_their_intervals_are_disjoint(made, first, second, difference):
    a, b = (
        made.make_record(
            outcomes=(made.found("TL1", "bias.x", "What?", made.between(*n), made.Verdict.DESCRIPTIVE, "So."),)
        )
        for n in (first, second)
    )
    assert [r.difference for r in compare(a, b).rows] == [difference]


def test_exact_numbers_differ_when_they_are_not_equal(made):
    def one(value):
        return made.make_record(
            outcomes=(made.found("TL1", "bias.x", "What?", made.exact(value), made.Verdict.DESCRIPTIVE, "So."),)
        )

    assert compare(one(1.0), one(1.0 + 1e-12)).rows[0].difference is Difference.WITHIN
    assert compare(one(1.0), one(1.001)).rows[0].difference is Difference.DIFFERS


def test_a_comparison_says_what_only_one_has_and_which_data_differ(made):
    a = made.make_record()
    other = [o for o in a.outcomes if o.about.code not in {"TL310", "TL101"}]
    added = made.found(
        "TL999", "bias.new", "New?", made.exact(1.0), made.Verdict.HOLDS, "Yes.", controls=(made.control("init", 2.0),)
    )
    splits = tuple(made.dataclasses.replace(s, sha256="zz") if s.role == "test" else s for s in a.subject.splits)
    b = made.make_record(
        outcomes=(*other, added), subject=made.dataclasses.replace(a.subject, splits=splits, name="second")
    )
    told = compare(a, b)
    assert {r.code for r in told.rows if r.difference is Difference.ONLY_FIRST} == {"TL310", "TL101"}
    assert [r.code for r in told.rows if r.difference is Difference.ONLY_SECOND] == ["TL999"]
    assert [n.render() for n in told.notes] == [
        "the two reports have different test splits; part of any difference is theirs"
    ]
    for text in (markdown_comparison(told), printed(terminal_comparison(told))):
        assert "TL999" in text
        assert "only in the second" in text
        assert "different test splits" in text
    assert "仅第二份有" in markdown_comparison(told, "zh")


def test_a_verdict_that_changed_is_shown(made):
    def one(verdict):
        return made.make_record(outcomes=(made.found("TL1", "bias.x", "What?", made.exact(1.0), verdict, "So."),))

    told = compare(one(made.Verdict.FAILS), one(made.Verdict.INCONCLUSIVE))
    assert told.rows[0].verdict_changed
    assert "1, fails" in markdown_comparison(told)
    assert "1, inconclusive" in markdown_comparison(told)
