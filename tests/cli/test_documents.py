"""What README and ARCHITECTURE promise exists: commands, flags, names, files, and the first use in Python."""

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from theorylens.cli._main import commands

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff")


def _text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _examples():
    blocks = re.findall(r"```sh\n(.*?)```", _text("README.md"), re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("theorylens ")]


@pytest.mark.parametrize("words", _examples(), ids=" ".join)
def test_every_command_in_the_readme_is_one(words, place, monkeypatch):
    for name in ("report.json", "before.json", "after.json"):
        (place / name).write_text("{}")
    command = commands.commands[words[0]]
    with command.make_context(words[0], words[1:], resilient_parsing=False) as context:
        assert set(context.params) >= {p.name for p in command.params if p.expose_value}


def test_the_readme_shows_every_command():
    assert {words[0] for words in _examples()} == set(commands.commands)


def test_the_exit_codes_are_those_of_the_help():
    in_readme = set(re.findall(r"^\| (\d+) \|", _text("README.md"), re.M)) | {"70"}
    help_text = commands.get_help(click.Context(commands))
    assert in_readme == set(re.findall(r"\b(130|\d)\b(?= [a-z])", help_text.split("Exit codes")[1])) | {"70"}
    assert " 70 an error of theorylens itself" in help_text


def test_the_first_use_in_python_runs(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path))
    x = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    net = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(net.bias)
    with torch.no_grad():
        net.weight.copy_(torch.eye(2, 3))
    y = x[:, :2].argmax(1)
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", _text("README.md"), re.S) if "tl.audit" in c]
    code = code.replace('budget="60s"', 'budget="1s"')
    exec(code, {"net": net, "train_set": (x[:60], y[:60]), "test_set": (x[60:], y[60:])})
    assert (tmp_path / "report.html").exists()


def test_every_home_of_a_quantity_exists():
    table = _text("ARCHITECTURE.md").split("## Every quantity")[1].split("## Adding")[0]
    names = re.findall(r"`([a-z_]+)\.(\w+)`", table)
    assert len(names) > 20
    for part, name in names:
        assert hasattr(importlib.import_module(f"theorylens.{part}"), name), f"{part}.{name}"


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_no_machine_and_link_to_files_that_exist(page):
    text = _text(page)
    assert not re.search(r"(?<![\w.])/(work|root|tmp|home)/|https?://\S*(pypi|download\.pytorch|index)", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings, anchor
