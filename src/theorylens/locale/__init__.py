"""The languages a report can be read in: English is the source, every other one a set of gettext catalogues."""

from ._translator import LANGUAGES, translator

__all__ = ["LANGUAGES", "translator"]
