"""The fixture, in pytest runs of their own."""

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]
PLUGIN = "theorylens.integrations.pytest_plugin"

SUBJECT = """
    import torch
    import theorylens as tl

    def subject():
        x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
        net = torch.nn.Linear(3, 2)
        torch.nn.init.zeros_(net.bias)
        with torch.no_grad():
            net.weight.copy_(torch.eye(2, 3))
        return tl.Subject(model=net, loss="cross_entropy", test=(x, x[:, :2].argmax(1)), name="exact rule")
"""


@pytest.fixture
def inner(pytester, monkeypatch, tmp_path):
    """``inner(source)`` runs one test file with the plugin and nothing of this project's settings."""
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path))

    def run(source: str):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:theorylens", "-q")

    return run


def test_a_met_requirement_passes_and_gives_the_report(inner):
    result = inner(
        SUBJECT
        + """
    def test_it(theorylens_audit):
        report = theorylens_audit(subject(), require="certificate <= 0.05", only="TL101", budget="10s")
        assert report["TL101"].certificate.empirical == 0
    """
    )
    result.assert_outcomes(passed=1)


def test_a_requirement_that_is_not_met_fails_with_the_reason(inner):
    result = inner(
        SUBJECT
        + """
    def test_it(theorylens_audit):
        theorylens_audit(subject(), require=["certificate <= 0.001", "certificate <= 0.5"], only="TL101", budget="10s")
    """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*exact rule: not met: certificate <= 0.001 (the unfavourable end of TL101 is 0.01487*"]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_stored_report(inner, pytester, record_file):
    result = inner(
        f"""
    def test_good(theorylens_audit):
        theorylens_audit({str(record_file)!r}, require=["certificate <= 0.05"], allow_crash=["TL501"])

    def test_crashed(theorylens_audit):
        theorylens_audit({str(record_file)!r})

    def test_unknown(theorylens_audit):
        theorylens_audit({str(record_file)!r}, require="nonsense <= 1")
    """
    )
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*TL501 crashed: FloatingPointError*", "*unknown name 'nonsense'*"])


def test_nothing_measured_fails(inner, empty_file):
    result = inner(f"def test_it(theorylens_audit):\n    theorylens_audit({str(empty_file)!r})\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing was measured*"])


def test_loading_the_plugin_imports_nothing_heavy():
    heavy = "torch numpy scipy sklearn matplotlib jinja2 rich click safetensors"
    code = f"import sys, {PLUGIN}; print([m for m in {heavy!r}.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_plugin_is_found_by_pytest_in_any_project():
    from importlib.metadata import entry_points

    assert [e.value for e in entry_points(group="pytest11", name="theorylens")] == [PLUGIN]
