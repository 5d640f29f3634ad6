"""Packages whose names are loaded when they are first used: one list of imports serves program and type checker."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = ("theorylens", "theorylens.numerics", "theorylens.generalization")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_the_contents_is_there_and_nothing_else(package):
    module = importlib.import_module(package)
    (block,) = (s for s in ast.parse(inspect.getsource(module)).body if isinstance(s, ast.If) and s.orelse == []
                and ast.unparse(s.test) == "TYPE_CHECKING")  # fmt: skip
    imported = {a.name for s in block.body if isinstance(s, ast.ImportFrom) for a in s.names}
    assert set(module.__all__) - {"PROBES", "__version__"} == imported - {"Probe"}
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is getattr(module, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package):
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense
    assert not hasattr(module, "Probe")  # imported for a type only


def test_importing_a_package_loads_nothing_of_it():
    code = (
        "import sys, theorylens.generalization as g, theorylens.numerics\n"
        "ours = [m for m in sys.modules if m.startswith('theorylens.') and m.count('.') > 1]\n"
        "assert not ours and 'numpy' not in sys.modules, ours\n"
        "assert g.kl_inverse(0.0, 0.5) > 0.39 and 'torch' not in sys.modules\n"
        "assert 'kl_inverse' in vars(g)  # looked up once\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
