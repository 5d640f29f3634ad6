"""Payloads as tables: what is read and what is compared."""

from theorylens.report._tables import Grid


def test_a_column_of_sentences_may_wrap_and_numbers_may_not():
    rows = (("conv", "0.5", "−", "no matrix: a bias or a scale"), ("dense", "1.2×10⁻⁵", "0.3 s", "-"))
    assert Grid(head=("layer", "alpha", "time", "why"), rows=rows).words == (True, False, False, True)
    assert Grid(head=("层", "指数", "为什么跳过"), rows=(("a", "1", "不是矩阵，只是偏置或缩放参数"),)).words == (
        True,
        False,
        True,
    )
