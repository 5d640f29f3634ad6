"""Demos: subjects on real data that installed packages carry. Nothing is downloaded."""

from ._faces import face
from ._handwriting import digits, mnist

__all__ = ["digits", "face", "mnist"]
