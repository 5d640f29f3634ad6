import json

import jsonschema
import pytest

from theorylens.report import json_text, read_json, schema, write_json
from theorylens.results import record_view


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def test_a_record_goes_out_and_comes_back(record, tmp_path):
    path = write_json(record, tmp_path / "r.json")
    again = read_json(path)
    assert record_view(again) == record_view(record)
    assert json_text(again) == path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_every_record_is_valid(record, bare, hostile, validator):
    for one in (record, bare, hostile):
        validator.validate(json.loads(json_text(one)))


def _places(view, path=()):
    """Every object of the JSON whose fields the schema names, with the way to it."""
    if isinstance(view, dict):
        yield path, view
        for key, value in view.items():
            yield from _places(value, (*path, key))
    elif isinstance(view, list):
        for i, value in enumerate(view[:4]):
            yield from _places(value, (*path, i))


def _short(view):
    """The same JSON with long lists of numbers cut, so that validating it three hundred times is quick."""
    if isinstance(view, dict):
        return {k: _short(v) for k, v in view.items()}
    if isinstance(view, list):
        return [_short(v) for v in (view[:3] if view and isinstance(view[0], float | list) else view)]
    return view


# Fields that reports of this schema were written before, of certificates and of entries of results.
LATER = {"certificate": {"wrong", "examples"}, "results": {"p_values", "otherwise"}}
MAPS = {"versions", "plan", "settings", "values", "hashes", "controls"}  # any key may be absent


def test_a_missing_field_is_caught_wherever_it_is(record, validator):
    view = _short(json.loads(json_text(record)))
    tried = 0
    for path, found in list(_places(view)):
        if path and path[-1] in MAPS:
            continue
        named = next((part for part in reversed(path) if isinstance(part, str)), "")
        for key in set(found) - LATER.get(named, set()):
            kept = found.pop(key)
            assert not validator.is_valid(view), f"{path} without {key!r} passes"
            found[key] = kept
            tried += 1
    assert tried > 300
    validator.validate(view)


def test_additions_are_allowed_where_a_report_may_grow_and_nowhere_else(record, validator):
    view = json.loads(json_text(record))
    for place in (view, view["subject"], view["run"], view["results"][0], view["results"][-1]):
        place["new_field"] = 1
    validator.validate(view)
    for place in (view["results"][0]["estimate"], view["results"][0]["reason"], view["advice"][0], view["headline"]):
        place["new_field"] = 1
        assert not validator.is_valid(view)
        del place["new_field"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "theorylens/report/2"),
        (("results", 0, "verdict"), "great"),
        (("results", 0, "estimate", "interval"), None),
        (("results", 0, "estimate", "level"), 1.5),
        (("results", 0, "certificate"), None),
        (("results", 0, "certificate", "n"), 0),
        (("results", 4, "estimate", "value"), "0.5"),
        (("run", "seed"), "0"),
        (("exit_code",), None),
    ],
)
def test_a_wrong_value_is_caught(record, validator, path, value):
    view = json.loads(json_text(record))
    target = view
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    assert not validator.is_valid(view)


def test_numbers_that_are_not_finite_are_words(record):
    estimates = {r["code"]: r["estimate"] for r in json.loads(json_text(record))["results"] if r["outcome"] == "done"}
    assert estimates["TL601"]["value"] == "nan"
    assert estimates["TL101"]["interval"][0] == "-inf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list, not a theorylens report"),
        ('{"schema": "other"}', "this is not a theorylens report"),
        ('{"schema": "theorylens/report/1"}', "lacks the field 'subject'"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_json(path)


def test_nothing_half_written_stays_when_the_folder_is_missing(record, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist; create it first"):
        write_json(record, tmp_path / "no" / "r.json")


def test_an_old_file_survives_a_failed_write(tmp_path):
    from theorylens.report._files import write_text

    path = tmp_path / "r.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.txt"]
