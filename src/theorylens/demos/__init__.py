"""Demos: subjects on real data that installed packages carry. Nothing is downloaded."""

from ._handwriting import digits

__all__ = ["digits"]
