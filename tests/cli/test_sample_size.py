"""The command sample-size: the same numbers as the library, in both languages, without torch."""

import json
import re
import subprocess
import sys

import pytest
from matplotlib import font_manager

from theorylens.generalization import holdout_sizes, sample_sizes

WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
from theorylens.cli import main
main(sys.argv[1:])
"""


def rows(ended):
    return [line.split("\t") for line in ended.out.splitlines()]


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (("--class-size", 1000), {"class_size": 1000}),
        (("--log-class-size", 12.5), {"log_class_size": 12.5}),
        (("--bits", 80), {"bits": 80.0}),
        (("--vc", 10), {"vc_dimension": 10}),
    ],
)
def test_it_prints_what_the_library_says(run, flags, size):
    ended = run("sample-size", *flags, "--epsilon", 0.05, "--delta", 0.01)
    assert ended.code == 0
    assert [int(row[2]) for row in rows(ended)] == [s.m for s in sample_sizes(0.05, 0.01, **size)]
    assert all(len(row) == 5 for row in rows(ended))


def test_a_test_set_needs_no_class(run):
    ended = run("sample-size", "--test-set", 0.05, "--error", 0)
    assert [int(row[2]) for row in rows(ended)] == [s.m for s in holdout_sizes(0.05, 0.05, error=0.0)]
    assert [int(row[2]) for row in rows(run("sample-size", "--test-set", 0.05))] == [291, 600]


def test_it_speaks_chinese(run):
    english, chinese = (run("sample-size", "--vc", 3, "--lang", lang).out for lang in ("en", "zh"))
    assert "needed by every learner" in english
    assert "，" in chinese
    assert [line.split("\t")[2] for line in english.splitlines()] == [
        line.split("\t")[2] for line in chinese.splitlines()
    ]


def test_it_writes_json_and_a_picture(run, tmp_path, view):
    ended = run("sample-size", "--vc", 10, "--json", tmp_path / "s.json", "--plot", tmp_path / "s.svg")
    written = view(tmp_path / "s.json")
    assert (written["schema"], written["epsilon"], written["delta"]) == ("theorylens/sample-size/1", 0.1, 0.05)
    assert [r["examples"] for r in written["rows"]] == [int(row[2]) for row in rows(ended)]
    assert {"key", "theorem", "setting", "kind", "examples", "assumption", "reference"} == set(written["rows"][0])
    assert (tmp_path / "s.svg").read_text(encoding="utf-8").count("<path") > 30


def test_one_theorem_that_asks_for_very_many_does_not_hide_the_others(run):
    found = rows(run("sample-size", "--vc", 10, "--epsilon", 1e-9))
    assert min(int(row[2]) for row in found) < 10**10
    assert max(int(row[2]) for row in found) > 2**60


def test_a_picture_file_contains_the_accuracy_asked_for_and_draws_chinese(run, tmp_path, recwarn):
    ended = run("sample-size", "--class-size", 9, "--epsilon", 1e-4, "--lang", "zh", "--plot", tmp_path / "s.png")
    assert ended.code == 0
    installed = {font.name for font in font_manager.fontManager.ttflist}
    if any("CJK" in name for name in installed):
        assert not [w for w in recwarn if "missing from font" in str(w.message)]


def test_a_network_is_counted_in_bits_and_by_its_vc_dimension(run, place):
    ended = run("sample-size", "subject.py:make")
    assert ended.code == 0
    assert "train has 200 units; test has 300 units" in ended.err
    parameters = 4 * 8 + 8 + 8 * 2 + 2
    expected = {s.m for s in sample_sizes(0.1, 0.05, bits=32.0 * parameters)}
    upper = int(re.search(r"VC dimension of the architecture at most (\d+)", ended.err)[1])
    expected |= {s.m for s in sample_sizes(0.1, 0.05, vc_dimension=upper)}
    assert expected == {int(row[2]) for row in rows(ended)}


def test_a_network_without_a_vc_theorem_is_counted_in_bits(run, place):
    (place / "other.py").write_text((place / "subject.py").read_text().replace("ReLU", "GELU"), encoding="utf-8")
    ended = run("sample-size", "other.py:make")
    assert ended.code == 0
    assert "no VC dimension: GELU (at 1) is not piecewise polynomial" in ended.err
    assert "VC" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which class? Give one of --class-size, --log-class-size, --bits, --vc, SUBJECT, or --test-set"),
        (("--vc", 3, "--bits", 4), "give exactly one of class_size, log_class_size, bits, vc_dimension"),
        (("subject.py:make", "--vc", 3), "give either SUBJECT or a size; got subject.py:make and --vc"),
        (("--error", 0.1, "--vc", 3), "--error is about a test set; give --test-set WIDTH too"),
        (("--vc", 3, "--epsilon", 3), "epsilon must lie strictly between 0 and 1, got 3"),
        (("--vc", 0), "vc_dimension must be at least 1, got 0"),
        (("--test-set", 0), "width must lie strictly between 0 and 1, got 0"),
        (("--test-set", 0.1, "--plot", "s.svg"), "--plot draws the sizes of a class; give one"),
    ],
)
def test_wrong_usage(run, place, arguments, said):
    ended = run("sample-size", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_a_subject_that_cannot_be_loaded_is_refused(run, place):
    assert run("sample-size", "absent.py:make").code == 4


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_numbers_need_no_torch(lang, tmp_path):
    words = ["sample-size", "--vc", "10", "--test-set", "0.05", "--lang", lang, "--json", str(tmp_path / "s.json")]
    words += ["--plot", str(tmp_path / "s.svg")]
    command = [sys.executable, "-c", WITHOUT_TORCH, *words]
    ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["rows"]
