import dataclasses
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from theorylens.locale import translator
from theorylens.report import _theory as theory
from theorylens.report import html
from theorylens.results import Done, Kind, Matrix, Points

BLOCKS = {"dt", "dd", "td", "th", "li", "p", "div", "h2", "h3", "figure", "details", "summary"}
VOID = {"meta", "link", "br", "col", "use", "circle", "path", "image", "rect"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text, and whether the tags nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in BLOCKS:
            self.words.append(" ")
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [value for _, n, value in self.attributes if n == name]


@pytest.fixture(scope="module")
def source(record):
    return html(record)


@pytest.fixture(scope="module")
def attacked(hostile):
    return html(hostile)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


@pytest.fixture(scope="module")
def chinese(record):
    return Page(html(record, "zh"))


def test_tags_nest_and_close_and_ids_are_unique(page, chinese):
    for one in (page, chinese):
        assert one.open == []
        ids = one.values("id")
        assert len(ids) == len(set(ids))
        anchors = {h[1:] for h in one.values("href") if h.startswith("#")}
        assert anchors <= set(ids)


def test_the_same_record_gives_the_same_bytes(source, made):
    assert html(made.make_record()) == source


def test_no_address_outside_the_file_is_named(source, attacked):
    for one in (source, attacked):
        seen = Page(one)
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert [v for v in seen.values(name) if not v.startswith(("#", "data:"))] == []
        css = "".join(re.findall(r"<style>(.*?)</style>", one, re.S))
        assert "@import" not in css
        assert re.findall(r"url\((?!#)", css) == []
        assert not {"iframe", "object", "embed", "base", "form"} & set(seen.tags)


def test_hostile_names_are_text_everywhere(page, attacked, made):
    benign, attacked = page, Page(attacked)
    assert attacked.open == []
    assert attacked.tags.count("script") == benign.tags.count("script") == 2
    assert not [n for _, n, _ in attacked.attributes if n.startswith("on")]
    assert attacked.text.count('<script>alert("x")</script>') > 100
    assert not [v for v in attacked.values("id") if "<" in v or '"' in v]
    assert made.HOSTILE in attacked.text


def test_a_template_in_a_name_is_not_filled_in(made):
    subject = dataclasses.replace(made.make_record().subject, name="{{ 7*7 }} {0} %(x)s {name.__class__}")
    assert "{{ 7*7 }} {0} %(x)s {name.__class__}, audited" in Page(html(made.make_record(subject=subject))).text


def test_the_answer_says_the_bound_and_what_it_rests_on(page):
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "At most 3.24 % of new examples like these will be answered wrongly, with 95 % confidence." in text
    assert "It rests on what nobody could check: nobody chose anything by looking at test." in text
    assert "ignoring the input: 89.8 %" in text
    assert "Train with shifts of one pixel." in text


def test_certificates_and_indicators_have_tables_of_their_own(record, source):
    tables = re.findall(r'<table class="sum" id="(sum-\w+)".*?</table>', source, re.S)
    assert tables == ["sum-cert", "sum-ind"]
    for name, kinds in (("sum-cert", {Kind.CERTIFICATE}), ("sum-ind", {Kind.INDICATOR, Kind.DESCRIPTION})):
        body = re.search(rf'<table class="sum" id="{name}".*?</table>', source, re.S).group()
        codes = re.findall(r'class="code" href="#(TL\d+)"', body)
        assert sorted(codes) == sorted(
            o.about.code for o in record.outcomes if isinstance(o, Done) and o.result.kind in kinds
        )


def test_vacuous_certificates_are_named_last_and_grey(source):
    forest = re.search(r'<table class="forest">.*?</table>', source, re.S).group()
    rows = re.findall(r'<tr class="(\w*)"><td class="th"><b><a class="code" href="#(TL\d+)"', forest)
    assert rows == [("", "TL101"), ("", "TL104"), ("vac", "TL111")]
    assert forest.count('<span class="arrow"') == 1
    assert "≤\N{NO-BREAK SPACE}100" not in forest


def test_what_is_not_about_this_model_stands_apart(source, page):
    forests = re.findall(r'<table class="forest">.*?</table>', source, re.S)
    assert len(forests) == 2
    assert "TL110" in forests[1]
    assert "TL110" not in forests[0]
    assert "What this recipe can certify, not about this very model" in page.text


def test_every_result_has_a_card_and_every_other_outcome_a_row(record, page):
    ids = set(page.values("id"))
    assert {o.about.code for o in record.outcomes} <= ids
    assert page.tags.count("article") == sum(isinstance(o, Done) for o in record.outcomes)
    for line in ("Would take about 140 s; use --budget 4m", "FloatingPointError: loss is inf", "traceback"):
        assert line in page.text


def test_a_card_says_value_interval_level_controls_assumptions_and_how_to_repeat_it(page):
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    for line in (
        "0.57 [0.52, 0.61] (95 %, bootstrap within class)",
        "random init 0.44 · shuffled labels 0.58 · theory 0.5",
        "4.09 (exact)",
        "1.27 [1.20, 1.30] (limits: rounding)",
        "n/a (error unknown: not recorded)",
        "record more steps",
        "at most 3.24 % (measured 2.01 %, trivial level 89.8 %)",
        "broken: full-batch training (batches of 50)",
        'tl.audit(subject, only="TL301", seed=0)',
        "reorthogonalise True",
        "tolerance 1.00×10⁻⁶",
        "draws (rung) 64",
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 …",
        "1.4 s · 1,520 passes of one example",
        "1,000",
        "Dinh et al. (2017). ICML.",
        "a DataLoader was re-read in order",
        "test 597 rows of 590 units",
    ):
        assert line in text, line


def test_chapters_come_in_the_order_of_the_report(source):
    order = re.findall(r'<section aria-labelledby="(\w+)">', source)
    expected = ["generalization", "landscape", "kernels", "representation", "bias", "dynamics"]
    assert [s for s in order if s in expected] == expected
    assert order[:3] == ["requirements", "summary", "certificates"]
    assert order[-5:] == ["advice", "missing", "reproduce", "glossary", "references"]


def test_a_probe_of_an_unknown_chapter_is_not_lost(made):
    base = made.make_record()
    first = next(o for o in base.outcomes if o.about.code == "TL520")
    moved = dataclasses.replace(first, about=dataclasses.replace(first.about, name="elsewhere.measure"))
    text = Page(html(made.make_record(outcomes=(moved,), headline=None))).text
    assert "Further measures" in text
    assert "No class strays beyond chance." in text


def test_an_empty_audit_is_a_page_too(bare):
    text = Page(html(bare)).text
    assert "Nothing can be certified: needs a test split; give Subject(test=...)" in text
    assert "Nothing was measured." in text
    assert "No indicator was measured." in text
    assert "Nothing measured here asks for a change." in text
    assert "Requirements" not in text


def test_worst_payloads_stay_small(made):
    rng = np.random.default_rng(0)
    worst_matrix = Matrix(label=made.say("m"), values=rng.random((500, 500)), top=1.0)
    worst_points = Points(
        label=made.say("p"),
        x=rng.normal(size=2000),
        y=rng.normal(size=2000),
        x_name=made.say("x"),
        y_name=made.say("y"),
        group=np.arange(2000) % 10,
    )
    cards = [
        made.found(
            f"TL9{i:02}",
            "kernels.worst",
            "How large?",
            made.exact(1.0),
            made.Verdict.DESCRIPTIVE,
            "Large.",
            payload=(worst_matrix, worst_points, made.curve(100_000)),
        )
        for i in range(8)
    ]
    record = made.make_record(outcomes=(*made.outcomes(), *cards))
    assert len(html(record).encode()) < 1.5 * 2**20


def test_chinese_is_complete_where_the_report_itself_speaks(chinese, page, made):
    """Every English sentence left on the Chinese page came with the record, not from the report."""
    assert chinese.values("lang") == ["zh-Hans"]
    translate = translator("zh")
    from theorylens.report import _words as words

    for group in (words.VERDICTS, words.MEANINGS, words.KINDS, words.STATUS, words.PREDICTORS, words.ROLES):
        for message in group.values():
            assert re.search(r"[\u4e00-\u9fff]", translate(message.text)), message.text
    for line in (
        "对同类的新样本，答错的比例至多",
        "测得的一切",
        "δ 账本：每个 δ 花在哪里",
        "没有测到的",
        "术语",
        "什么也解释不了",
    ):
        assert line in chinese.text


def test_pictures_are_named_and_have_a_data_table(source):
    for article in re.findall(r"<article.*?</article>", source, re.S):
        figures = re.findall(r"<figure><svg[^>]*>", article)
        assert all('role="img"' in f and re.search(r'aria-label="[^"]+"', f) for f in figures)
        if figures:
            assert "Data table" in article


def test_the_page_needs_no_script(source):
    without = re.sub(r"<script>.*?</script>", "", source, flags=re.S)
    seen = Page(without)
    hidden = [value for tag, name, value in seen.attributes if name == "hidden"]
    assert len(hidden) == 1  # the theme switch, which is nothing without a script
    assert "At most" in seen.text


def test_the_how_to_read_fold_comes_from_the_theory_page(monkeypatch, tmp_path):
    (tmp_path / "theory").mkdir()
    page = "# T\n\n## How to read it\n\nMore **ink**, [link](http://x.org) <script>x</script> `a_b`.\n\n"
    page += "| a | b |\n|---|---|\n| 1 | 2 |\n\n## Proof\n\nno\n"
    (tmp_path / "theory" / "TL301.en.md").write_text(page, encoding="utf-8")
    monkeypatch.setattr(theory, "files", lambda name: tmp_path)
    told = theory.how_to_read("TL301", "en")
    assert "<strong>ink</strong>" in told
    assert "<td>2</td>" in told
    assert "href" not in told
    assert "<script>" not in told
    assert "Proof" not in told
    assert theory.how_to_read("TL301", "zh") == ""
    assert theory.how_to_read("../secret", "en") == ""


def test_the_report_imports_neither_torch_nor_the_measuring_parts(record, source, tmp_path):
    import subprocess

    from theorylens.report import write_json

    write_json(record, tmp_path / "r.json")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from theorylens.report import Report\n"
        f"Report.load({str(tmp_path / 'r.json')!r}).save({str(tmp_path / 'r.html')!r})\n"
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('theorylens.')}\n"
        "assert ours <= {'report', 'results', 'locale', '_first_use'}, ours\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == source
