"""From a language to the function that translates an English template.

One catalogue per part of the library (``zh/LC_MESSAGES/landscape.po``), so that a part owns its sentences.
"""

from __future__ import annotations

import gettext
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable

LANGUAGES = ("en", "zh")


def translator(lang: str) -> Callable[[str], str]:
    """Translate English templates into ``lang``; a template that no catalogue knows comes back as it is.

    Raises
    ------
    ValueError
        When there are no catalogues for ``lang``.
    FileNotFoundError
        When a catalogue has not been compiled.

    >>> translator("en")("{errors} errors on {n} examples")
    '{errors} errors on {n} examples'
    """
    if lang not in LANGUAGES:
        raise ValueError(f"unknown language {lang!r}; known are {', '.join(LANGUAGES)}")
    if lang == "en":
        return str
    return _merged(files(__package__) / lang / "LC_MESSAGES", lang)


def _merged(folder: Traversable, lang: str) -> Callable[[str], str]:
    first: gettext.NullTranslations = gettext.NullTranslations()
    for source in sorted((f for f in folder.iterdir() if f.name.endswith(".po")), key=lambda f: f.name):
        compiled = folder / (source.name.removesuffix(".po") + ".mo")
        if not compiled.is_file():
            raise FileNotFoundError(f"the {lang} catalogue {source.name} is not compiled; run 'make locale'")
        with compiled.open("rb") as stream:
            first.add_fallback(gettext.GNUTranslations(stream))

    def translate(text: str) -> str:
        return first.gettext(text) if text else text  # the empty msgid is the catalogue's header

    return translate
