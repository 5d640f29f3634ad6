"""Compile the gettext catalogues: called by hatch at build time, by ``make locale`` on one file, never at run time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LOCALE = Path(__file__).resolve().parent.parent / "src" / "theorylens" / "locale"


def compile_catalogue(po: Path) -> Path:
    """Write the ``.mo`` beside ``po``; the rename makes it whole or absent."""
    with po.open("rb") as source:
        catalogue = read_po(source, locale=po.parent.parent.name)
    mo = po.with_suffix(".mo")
    half = mo.with_suffix(".mo.part")
    with half.open("wb") as target:
        write_mo(target, catalogue)
    half.replace(mo)
    return mo


class CatalogueHook(BuildHookInterface):  # type: ignore[type-arg]
    """Put compiled catalogues into the wheel, and beside the sources for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for po in sorted(LOCALE.glob("*/LC_MESSAGES/*.po")):
            compile_catalogue(po)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        compile_catalogue(Path(name))
