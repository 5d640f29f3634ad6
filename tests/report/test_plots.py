import html.parser
import itertools
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from theorylens.report._axes import PALETTE, linear_ticks, logarithmic_ticks
from theorylens.report._plots import draw, figure, plot
from theorylens.report._svg import svg
from theorylens.report._tables import COLUMNS, ROWS, grid
from theorylens.results import PAYLOADS, Curve, Intervals, Levels, Line, Matrix, Points, Spectrum, Table, Wall


def texts(markup: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(markup).iter() if e.tag == "text"]


def test_every_payload_type_has_a_renderer_and_a_table():
    for dispatcher in (draw, grid):
        for kind in PAYLOADS:
            assert dispatcher.dispatch(kind) is not dispatcher.dispatch(object), f"{kind.__name__} has none"


def test_what_is_no_payload_is_refused():
    with pytest.raises(TypeError, match="nobody knows how to draw a str"):
        draw("x", None, str)
    with pytest.raises(TypeError, match="nobody knows how to tabulate a str"):
        grid("x", str)


def test_a_picture_is_plain_svg_of_the_page(payload):
    markup = svg(payload, "k1")
    root = ElementTree.fromstring(markup)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == payload.label.render()
    assert set(root.attrib) == {"viewBox", "role", "aria-label"}
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    assert all(i.startswith("k1-") for i in ids)
    assert {f"#{i}" for i in ids} >= {h for e in root.iter() if (h := e.attrib.get("href", "")).startswith("#")}
    assert set(re.findall(r"url\(#([^)]+)\)", markup)) <= set(ids)
    assert not re.search(r"https?:|font-family|<style|<metadata|<!--", markup)
    assert texts(markup)


def test_the_same_numbers_give_the_same_bytes(payload):
    assert svg(payload, "k1") == svg(payload, "k1")


def test_every_colour_follows_the_page(payload):
    without_images = re.sub(r'href="data:[^"]*"', "", svg(payload, "k1"))
    bare = re.sub(r"var\(--[a-z]+,#[0-9a-f]{6}\)", "", without_images)
    assert not re.findall(r"(?<!&)#[0-9a-fA-F]{3,8}\b(?!-)", re.sub(r'(?:href="#|url\(#)[\w.-]+', "", bare))
    assert len(set(PALETTE.values())) == len(PALETTE)


def test_a_picture_leaves_the_settings_of_matplotlib_alone(payload):
    before = dict(mpl.rcParams)
    svg(payload, "k1")
    plot(payload, Figure().add_subplot())
    assert dict(mpl.rcParams) == before


def test_hostile_names_stay_text(made):
    evil = made.say("{evil}", evil=made.HOSTILE)
    one = np.array([1.0, 2.0, 3.0])
    line = Line(x=one, y=one, name=evil)
    walls = (Wall(at=2.0, name=evil),)
    payloads = [
        Curve(label=evil, lines=(line,), x_name=evil, y_name=evil, walls=walls),
        Spectrum(label=evil, levels=(Levels(values=one, name=evil),), y_name=evil, walls=walls),
        Matrix(
            label=evil, values=np.eye(2), top=1.0, rows=(made.HOSTILE,) * 2, columns=("$a_b^$", "&<b>"), x_name=evil
        ),
        Intervals(
            label=evil, names=("$\\frac{", "<b>&", "a_b"), values=one, lower=one, upper=one, x_name=evil, walls=walls
        ),
        Points(label=evil, x=one, y=one, x_name=evil, y_name=evil),
    ]
    for payload in payloads:
        markup = svg(payload, "k1")
        root = ElementTree.fromstring(markup)
        assert root.attrib["aria-label"] == made.HOSTILE
        assert not any(e.tag in {"script", "b"} for e in root.iter())
        joined = " ".join("".join(texts(markup)).split())
        assert "<script>" in joined
        seen = []
        parser = html.parser.HTMLParser()
        parser.handle_starttag = lambda tag, attributes, seen=seen: seen.append(tag)
        parser.feed(markup)
        assert "script" not in seen
    assert "$\\frac{" in texts(svg(payloads[3], "k"))
    assert "$a_b^$" in texts(svg(payloads[2], "k"))


def test_a_dollar_name_survives_on_the_axes_of_a_caller_too(made):
    caller = Figure()
    ax = caller.add_subplot()
    one = np.array([1.0])
    plot(
        Intervals(
            label=made.say("x"),
            names=("$\\frac{",),
            values=one,
            lower=one,
            upper=one,
            x_name=made.say("{name}", name="$_{"),
        ),
        ax,
    )
    caller.canvas.draw()
    assert ax.get_yticklabels()[0].get_text() == "$\\frac{"


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [[], [np.nan], [0.0], [5.0], [-1.0, 0.0], [1e-12, 1e12], [3.0, 3.0], [np.inf, 1.0]])
def test_any_numbers_can_be_drawn(made, values, log):
    y = np.array(values, dtype=float)
    line = Line(x=np.arange(len(y), dtype=float), y=y, name=made.say("a"))
    ElementTree.fromstring(
        svg(
            Curve(label=made.say("l"), lines=(line,), x_name=made.say("x"), y_name=made.say("y"), x_log=log, y_log=log),
            "k",
        )
    )
    ElementTree.fromstring(
        svg(
            Spectrum(
                label=made.say("l"), levels=(Levels(values=y, name=made.say("a")),), y_name=made.say("y"), y_log=log
            ),
            "k",
        )
    )
    ElementTree.fromstring(svg(Matrix(label=made.say("l"), values=np.tile(y, (14, 1)), top=0.0), "k"))
    ElementTree.fromstring(svg(Points(label=made.say("l"), x=y, y=y, x_name=made.say("x"), y_name=made.say("y")), "k"))
    names = tuple(str(i) for i in range(len(y)))
    ElementTree.fromstring(
        svg(Intervals(label=made.say("l"), names=names, values=y, lower=y, upper=y, x_name=made.say("x")), "k")
    )


def test_a_line_and_its_controls_differ_without_colour(made):
    ax = figure(made.curve()).axes[0]
    drawn = [(line.get_linestyle(), line.get_marker()) for line in ax.get_lines()[:2]]
    assert len(set(drawn)) == 2


def test_what_is_drawn_is_what_was_measured(made):
    payload = made.curve()
    network = figure(payload).axes[0].get_lines()[0]
    np.testing.assert_allclose(network.get_ydata(), payload.lines[0].y)
    np.testing.assert_allclose(network.get_xdata(), payload.lines[0].x)
    points = made.points()
    dots = figure(points).axes[0].patches
    seen = np.concatenate([p.get_path().vertices[::2] for p in dots])
    assert {tuple(v) for v in seen} == set(zip(points.x.tolist(), points.y.tolist(), strict=True))


def test_names_at_the_ends_of_lines_do_not_touch(made):
    one = np.array([0.0, 1.0])
    names = ("alpha", "beta", "gamma")
    lines = tuple(Line(x=one, y=one + 0.001 * i, name=made.say(name)) for i, name in enumerate(names))
    curve = Curve(label=made.say("l"), lines=lines, x_name=made.say("x"), y_name=made.say("y"))
    drawn = figure(curve)
    drawn.canvas.draw()
    boxes = sorted(t.get_window_extent().y0 for t in drawn.axes[0].texts if t.get_text() in names)
    assert len(boxes) == 3
    assert min(b - a for a, b in itertools.pairwise(boxes)) >= 15


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 1, ["0", "0.25", "0.5", "0.75", "1"]),
        (0, 10, ["0", "2.5", "5", "7.5", "10"]),
        (-3, 3, ["−2", "0", "2"]),
        (0, 4e6, ["0", "1×10⁶", "2×10⁶", "3×10⁶", "4×10⁶"]),
    ],
)
def test_linear_ticks_are_round_numbers(low, high, words):
    assert linear_ticks(low, high)[1] == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.9, 900, ["1", "3", "10", "30", "100", "300"]),
        (0.05, 80, ["0.1", "1.0", "10"]),
        (1e-9, 1e3, ["10⁻⁹", "10⁻⁶", "0.001", "1", "1,000"]),
        (1, 9, ["1", "2", "5"]),
    ],
)
def test_logarithmic_ticks_are_plain_numbers(low, high, words):
    places, shown = logarithmic_ticks(low, high)
    assert all(low <= p * 1.001 and p <= high * 1.001 for p in places)
    assert len(places) <= 7
    if words != ["0.1", "1.0", "10"]:
        assert shown == words


def test_a_table_that_is_too_long_says_where_the_rest_is(made):
    big = grid(Matrix(label=made.say("l"), values=np.arange(250_000.0).reshape(500, 500), top=1.0), str)
    assert len(big.rows) == ROWS
    assert {len(r) for r in (big.head, *big.rows)} == {COLUMNS + 1}
    assert big.note == "60 of 500 rows and 13 of 501 columns; all of them are in the JSON."
    assert big.rows[0][0] == "0"
    assert big.rows[-1][0] == "499"


def test_tables_repeat_the_numbers(made):
    told = grid(made.intervals(), str)
    assert told.head == ("", "intrinsic dimension", "lower", "upper")
    assert told.rows[-1] == ("logits", "5.2", "4.6", "5.8")
    assert grid(made.spectrum(), str).head == ("rank", "this network", "error", "random init", "shuffled labels")
    assert grid(made.table(), str).rows[2] == ("two", "12.5", "few")
    assert grid(made.small_matrix(), str).rows[0][:3] == ("input", "1", "0.88")
    assert (
        grid(made.curve(), str).head == ("line", "training step, log scale", "sharpness, log scale")
        or len(grid(made.curve(), str).head) == 5
    )
    assert grid(made.points(4), str).head == ("first coordinate", "second coordinate", "group")
    assert isinstance(made.table(), Table)
