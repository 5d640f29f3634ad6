"""``python -m benchmarks``: one table."""

import statistics
import subprocess
import sys
import time

import torch

from .interleaved import RUNS
from .products import hessian_products, kernels


def help_seconds() -> float:
    """Wall seconds of ``theorylens --help``, median."""
    spent = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "theorylens", "--help"], check=True, capture_output=True)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, process CPU time, median of {RUNS} interleaved runs")
    spent = help_seconds()
    print(f"{'theorylens --help':<52} {spent * 1e3:9.1f} ms  (mark 500 ms: {'reached' if spent < 0.5 else 'missed'})")
    for marks in (hessian_products(), kernels()):
        for mark in marks:
            print(mark, flush=True)


if __name__ == "__main__":
    main()
