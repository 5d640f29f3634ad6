"""The settings file: the same keys as the flags; a flag wins over the file, the file over the default."""

import pytest

FILE = """
subject = "subject.py:make"
budget = 90
only = ["landscape", "TL101"]
require = ["certificate <= 0.5"]
delta = 0.1
joint = true
comparisons = 7
seed = 5
allow-crash = ["TL101"]
cache = "kept"
json = "from-file.json"
no_progress = true
"""


@pytest.fixture
def config(place):
    path = place / "audit.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_the_file_is_read(run, config, asked, place):
    assert run("audit", "--config", config).code == 3  # the code of the report that stands in for an audit
    (call,) = asked
    options = call["options"]
    assert call["subject"].name == "half plane"
    assert (call["budget"], call["only"], call["seed"]) == ("90", "landscape,TL101", 5)
    assert (options.delta, options.joint, options.comparisons) == (0.1, True, 7)
    assert (options.require, options.allow_crash) == (("certificate <= 0.5",), ("TL101",))
    assert (str(options.cache), options.progress) == ("kept", False)
    assert (place / "from-file.json").exists()
    assert options.command == (
        "theorylens audit subject.py:make --budget 90 --only landscape,TL101 --require 'certificate <= 0.5' "
        "--allow-crash TL101 --delta 0.1 --joint --comparisons 7 --seed 5"
    )


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(run, config, asked):
    run("audit", "--config", config, "--seed", "8", "--require", "certificate <= 0.9", "--budget", "unlimited")
    (call,) = asked
    assert (call["seed"], call["budget"]) == (8, None)
    assert call["options"].require == ("certificate <= 0.9",)
    assert call["options"].comparisons == 7
    assert call["skip"] is None


def test_defaults_without_a_file(run, place, asked):
    run("audit", "subject.py:make")
    (call,) = asked
    assert (call["budget"], call["only"], call["seed"]) == ("60s", None, 0)
    assert (call["options"].delta, str(call["options"].cache), call["options"].progress) == (0.05, ".theorylens", True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("buget = '60s'", "unknown key 'buget'; did you mean 'budget'?"),
        ("zzz = 1", "unknown key 'zzz'; known are allow-crash, budget"),
        ("config = 'other.toml'", "unknown key 'config'"),
        ("help = true", "unknown key 'help'"),
        ("[audit]\nbudget = '60s'", "unknown key 'audit'"),
        ("budget = {time = 3}", "budget needs a text or a number"),
        ("seed = true", "seed needs a text or a number"),
        ("joint = 'yes'", "joint needs true or false"),
        ("seed = 'many'", "'many' is not a valid integer"),
        ("budget = 'soon'", "cannot read the budget 'soon'"),
        ("lang = 'fr'", "'fr' is not one of 'en', 'zh'"),
        ("out = 'missing/r.html'", "the folder 'missing' does not exist"),
        ("budget = ", "audit.toml is not TOML"),
    ],
)
def test_what_the_file_gets_wrong_is_wrong_usage(run, place, asked, line, said):
    (place / "audit.toml").write_text(line)
    ended = run("audit", "subject.py:make", "--config", "audit.toml")
    assert (ended.code, ended.out, asked) == (2, "", [])
    assert said in " ".join(ended.err.split())


def test_check_refuses_keys_that_it_does_not_have(run, config):
    ended = run("check", "--config", config)
    assert ended.code == 2
    assert "unknown key 'budget'" in ended.err


def test_demos_write_their_report_unless_told_otherwise(run, place, asked, monkeypatch):
    given = []
    monkeypatch.setattr("theorylens.demos.digits", lambda **options: given.append(options) or "the digits")
    ended = run("demo")
    assert (ended.code, asked[0]["subject"], asked[0]["budget"]) == (3, "the digits", "60s")
    assert given[0]["directory"].parts == (".theorylens", "demo-digits")
    assert asked[0]["options"].command == "theorylens demo digits --budget 60s --seed 0"
    assert "written: report.html" in ended.err
    assert {p.name for p in place.iterdir()} == {"subject.py", "report.html", "report.json"}
    run("demo", "digits", "--fresh", "--lang", "zh", "--out", "zh.html", "--json", "zh.json")
    assert given[1]["directory"] is None
    assert '<html lang="zh' in (place / "zh.html").read_text(encoding="utf-8")
