"""Fonts of pictures that are saved as files: unlike a page, which leaves that to the reader's, they draw their text."""

from __future__ import annotations

import re
from typing import Any

_HAN = re.compile("CJK|YaHei|SimHei|SimSun|PingFang|Heiti|WenQuanYi|Source Han")


def draw_han(figure: Any) -> None:
    """Put a font with Han characters, where one is installed, behind the usual one of all text in ``figure``."""
    from matplotlib import font_manager
    from matplotlib.text import Text

    han = sorted({font.name for font in font_manager.fontManager.ttflist if _HAN.search(font.name)})
    for text in figure.findobj(Text) if han else ():
        text.set_fontfamily(["sans-serif", next((name for name in han if name.endswith("SC")), han[0])])
