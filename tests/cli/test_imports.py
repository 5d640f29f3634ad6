"""What a command imports: nothing heavy for help, no torch for stored reports."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "jinja2", "rich", "joblib", "safetensors")
COMMANDS = ("demo", "audit", "check", "init", "list", "explain", "compare", "gate", "render", "advise", "sample-size")
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "scipy", "sklearn", "joblib", "safetensors"):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
from theorylens.cli import main
main(sys.argv[1:])
"""
AFTERWARDS = """
import json, sys
from theorylens.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})), file=sys.stderr)
"""


def _python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_help_imports_nothing_heavy():
    ended = _python(AFTERWARDS, "--help")
    assert ended.returncode == 0
    assert all(f"  {command} " in ended.stdout for command in COMMANDS)
    assert not set(HEAVY) & set(json.loads(ended.stderr))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_imports_nothing_heavy(command):
    ended = _python(AFTERWARDS, command, "--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"Usage: theorylens {command}")
    assert not set(HEAVY) & set(json.loads(ended.stderr))


def test_a_reader_that_leaves_is_no_crash(stored):
    command = [sys.executable, "-c", "from theorylens.cli import main; main()", "render", str(stored())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert (process.returncode, err) == (141, "")


def test_the_blocker_blocks():
    ended = _python(WITHOUT_TORCH, "list")
    assert ended.returncode == 70
    assert "blocked: " in ended.stderr


def test_stored_reports_need_no_torch(stored, tmp_path):
    path, other = stored("a.json"), stored("b.json", sharpness=9.0)
    for arguments, code in (
        (("gate", path, "--require", "certificate <= 0.03"), 1),
        (("gate", path, "--require", "certificate <= 0.05"), 0),
        (("gate", path, "--require", "nonsense <= 0.05"), 2),
        (("compare", path, other), 0),
        (("render", path), 0),
        (("render", path, "--lang", "zh", "--out", tmp_path / "r.html"), 0),
        (("render", path, "--out", tmp_path / "r.md"), 0),
        (("advise", path), 0),
        (("explain", "TL999"), 2),
        (("init", tmp_path / "s.py"), 0),
        (("--version",), 0),
    ):
        ended = _python(WITHOUT_TORCH, *arguments)
        assert (ended.returncode, arguments[0]) == (code, arguments[0]), ended.stderr
    assert (tmp_path / "r.html").stat().st_size > 10_000
