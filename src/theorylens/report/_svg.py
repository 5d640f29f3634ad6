"""A matplotlib figure as SVG of the page: colours follow the theme, text stays text, same numbers, same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from html import escape
from xml.etree import ElementTree

from theorylens.results import Payload, Translate

from ._axes import NET, PALETTE
from ._plots import RC, figure

_XLINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"metadata", "style"}
_NUMBERS = {"d", "transform", "points", "x", "y", "width", "height"}
_KEPT = {
    "d", "transform", "points", "x", "y", "width", "height", "style", "id", "clip-path", "href", "viewBox",
}  # fmt: skip


def svg(payload: Payload, key: str, translate: Translate = str, *, narrow: bool = False) -> str:
    """``payload`` as one ``<svg>`` element. ``key`` (letters, digits, dashes) makes its ids unique on the page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # text stays text: the reader's font draws it
        figure(payload, translate, narrow=narrow).savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    root = ElementTree.fromstring(buffer.getvalue())
    return "".join(_Page(root, key).write(payload.label.render(translate)))


class _Page:
    """Rewrites the tree of one figure for the page it will stand in."""

    def __init__(self, root: ElementTree.Element, key: str) -> None:
        self.root = root
        self.key = key
        self.used = {m for e in root.iter() for v in e.attrib.values() for m in re.findall(r"#([\w.-]+)", v)}
        self.box = root.attrib["viewBox"]
        self.images = 0

    def write(self, label: str) -> Iterator[str]:
        yield f'<svg viewBox="{escape(self.box)}" role="img" aria-label="{escape(label)}">'
        for child in self.root:
            yield from self._element(child)
        yield "</svg>"

    def _element(self, element: ElementTree.Element) -> Iterator[str]:
        tag = element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else "metadata"
        if tag in _DROPPED:
            return
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in self._attributes(element))
        inner = "" if tag != "text" else escape(element.text or "", quote=False)
        body = inner + "".join(part for child in element for part in self._element(child))
        if tag == "image":
            yield from self._ink(attributes)
        elif body:
            bare = tag == "g" and not attributes
            yield body if bare else f"<{tag}{attributes}>{body}</{tag}>"
        elif tag not in {"g", "defs"}:
            yield f"<{tag}{attributes}/>"

    def _attributes(self, element: ElementTree.Element) -> Iterator[tuple[str, str]]:
        for name, value in element.attrib.items():
            plain = "href" if name == _XLINK else name
            if plain not in _KEPT or (plain == "id" and value not in self.used):
                continue
            if plain == "id":
                value = f"{self.key}-{value}"
            elif plain == "style":
                value = _style(value)
            elif plain in _NUMBERS:
                value = _rounded(value)
            value = re.sub(r"url\(#([^)]+)\)", rf"url(#{self.key}-\1)", value)
            if plain == "href" and value.startswith("#"):
                value = f"#{self.key}-{value[1:]}"
            if value:
                yield plain, value

    def _ink(self, attributes: str) -> Iterator[str]:
        """A picture of one colour becomes a stencil: where it is opaque, the ink of the page shows."""
        self.images += 1
        name = f"{self.key}-ink{self.images}"
        _, _, width, height = self.box.split()
        area = f'width="{width}" height="{height}"'
        yield (
            f'<mask id="{name}" maskUnits="userSpaceOnUse" x="0" y="0" {area} style="mask-type:alpha">'
            f"<image{attributes}/></mask>"
            f'<rect {area} style="fill:var(--net,{NET})" mask="url(#{name})"/>'
        )


def _style(value: str) -> str:
    """Declarations without font families (the page has its own) and with palette colours as variables."""
    kept = []
    for declaration in value.split(";"):
        name, _, content = (part.strip() for part in declaration.partition(":"))
        if name == "font":
            size = re.search(r"[\d.]+px", content)
            weight = "font-weight:600" if re.search(r"\b(?:bold|[6-9]00)\b", content) else ""
            kept += [f"font-size:{size.group()}"] if size else []
            kept += [weight] if weight else []
        elif name and name != "font-family":
            kept.append(f"{name}:{content}")
    text = ";".join(kept)
    for variable, colour in PALETTE.items():
        text = text.replace(colour, f"var(--{variable},{colour})")
    return text


def _rounded(value: str) -> str:
    value = re.sub(r"-?\d+\.\d+(?:e-?\d+)?", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), value)
    value = " ".join(value.split())
    value = re.sub(r"M ([-\d.]+) ([-\d.]+) L \1 \2(?= |$)", r"M\1 \2h0", value)  # a dot
    return re.sub(r"\s*([MLCQHVZz])\s*", r"\1", value)
