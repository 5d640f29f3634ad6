"""One public name means one thing: parts that export the same name export the same object."""

import importlib
from collections import defaultdict

PARTS = (
    "results", "numerics", "core", "training", "reference", "representation", "landscape", "kernels", "bias",
    "dynamics", "generalization", "frontier", "auditing", "advice", "report",
)  # fmt: skip
# Every chapter has PROBES; numerics.eigenvalues is of an operator, landscape.eigenvalues the same of a Hessian.
SHARED = {"PROBES", "eigenvalues"}


def test_no_two_parts_use_one_name_for_different_things():
    homes = defaultdict(dict)
    for part in PARTS:
        module = importlib.import_module(f"theorylens.{part}")
        for name in module.__all__:
            homes[name].setdefault(id(getattr(module, name)), []).append(part)
    clashes = {name: list(found.values()) for name, found in homes.items() if len(found) > 1 and name not in SHARED}
    assert not clashes
    assert len(homes["margins"]) == 1  # the test would see it: two parts export this one
