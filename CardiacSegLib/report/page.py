"""What pages have in common: one HTML file that needs no other, laid out for A4, with every text escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from CardiacSegLib import DISCLAIMER, __version__

# The page needs nothing from anywhere; a browser is told so, whatever a name in it may hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

#: The width of what is printed, in mm: A4 less margins.
WIDTH_MM = 190.0

# Arial and its metric twins come first: the page is laid out for their width.
_STYLE = """
@page { size: A4; margin: 10mm; }
* { box-sizing: border-box; }
body { font: 8.4pt/1.3 Arial, Helvetica, "Liberation Sans", "Nimbus Sans", sans-serif; color: #1a1a1a;
  background: #e9e9e9; margin: 0; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.sheet { background: #ffffff; width: 210mm; max-width: 100%; min-height: 297mm; padding: 10mm; margin: 6mm auto;
  display: flex; flex-direction: column; overflow-wrap: anywhere; }
@media print {
  body { background: #ffffff; }
  .sheet { width: auto; min-height: 276mm; padding: 0; margin: 0; break-after: page; }
  .sheet:last-of-type { break-after: auto; }
}
h1 { font-size: 14pt; line-height: 1.15; margin: 0 0 1mm; }
h2 { font-size: 9.6pt; margin: 2.6mm 0 0.8mm; border-bottom: 0.3mm solid #1a1a1a; break-after: avoid; }
p { margin: 0 0 1mm; }
.top { display: flex; justify-content: space-between; gap: 6mm; align-items: baseline; }
.top > :last-child { white-space: nowrap; }
.disclaimer { font-weight: bold; }
.identity { display: flex; flex-wrap: wrap; gap: 0.5mm 6mm; margin: 0.6mm 0 1mm; }
.identity b { font-weight: normal; color: #555555; }
.blank { flex: 1 1 40mm; border-bottom: 0.2mm solid #777777; min-height: 5mm; }
.side { display: flex; flex-wrap: wrap; gap: 0 5mm; align-items: flex-start; }
.side > * { flex: 1 1 84mm; min-width: 0; }
.beside { display: flex; flex-wrap: wrap; gap: 0 4mm; align-items: flex-start; }
.beside > svg { flex: 0 0 118mm; width: 118mm; height: auto; } .beside > div { flex: 1 1 50mm; min-width: 0; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: bold; font-size: 9.6pt; padding: 1.4mm 0 0.4mm; }
th, td { text-align: left; vertical-align: top; padding: 0.45mm 1.4mm 0.45mm 0; border-bottom: 0.15mm solid #b0b0b0;
  font-weight: normal; }
th[scope=row] { white-space: nowrap; }
thead th { color: #555555; border-bottom-color: #1a1a1a; }
.number { text-align: right; white-space: nowrap; }
.range { font-size: 7.4pt; padding-left: 1mm; min-width: 19mm; overflow-wrap: normal; }
.hand { font-size: 7.4pt; white-space: nowrap; font-style: italic; }
.small { font-size: 7.2pt; line-height: 1.25; }
.tiny { font-size: 6.7pt; line-height: 1.18; }
.columns { columns: 2; column-gap: 6mm; }
.sheet > * { break-inside: avoid; }
ul { margin: 0; padding-left: 4mm; } li { break-inside: avoid; }
dl { margin: 0; columns: 2; column-gap: 6mm; }
dl.wide { columns: 3; }
dl div { break-inside: avoid; } dt { display: inline; color: #555555; } dt::after { content: ": "; }
dd { display: inline; margin: 0; }
.fill { position: relative; flex: 1 1 auto; }
.fill > svg { position: absolute; inset: 0; width: 100%; height: 100%; }
svg { display: block; max-width: 100%; font-family: Arial, Helvetica, "Liberation Sans", sans-serif; }
.pictures { display: flex; gap: 2mm; align-items: flex-start; }
.pictures > * { flex: 0 1 62mm; min-width: 0; } .little > * { flex-basis: 50mm; }
.beside th[scope=row] { white-space: normal; }
.pictures svg { width: 100%; height: auto; }
.foot { margin-top: auto; padding-top: 1.5mm; display: flex; justify-content: space-between; color: #555555; }
"""


def document(title: str, sheets: Sequence[str], foot: str = "") -> str:
    """The whole HTML file. ``sheets`` hold the pages' content as HTML; title and foot are plain text."""
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{text(title)}</title><style>{_STYLE}</style>"
    )
    pages = []
    for number, sheet in enumerate(sheets, 1):
        said = f"{DISCLAIMER} CardiacSeg {__version__}."
        end = f"<span>{said}</span><span>{text(foot)}</span><span>Page {number} of {len(sheets)}</span>"
        pages.append(f'<section class="sheet">\n{sheet}\n<div class="foot small">{end}</div>\n</section>')
    body = "\n".join(pages)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def text(value: Any, most: int = 300) -> str:
    """Any value as escaped text: lists joined by commas, control characters left out, shortened to ``most``."""
    plain = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    plain = "".join(c for c in plain if c.isprintable() or c == " ")
    return escape(plain if len(plain) <= most else plain[: most - 1] + "\N{HORIZONTAL ELLIPSIS}")


def inline(svg: str) -> str:
    """An SVG document as it stands within HTML, which needs no namespace and no addresses."""
    return re.sub(r'\s?xmlns(:\w+)?="[^"]*"|<\?xml[^>]*\?>', "", svg)


def facts(values: Mapping[str, Any], kind: str = "") -> str:
    """Names and values, those that are ``None`` or empty left out."""
    rows = [f"<div><dt>{text(k)}</dt> <dd>{text(v)}</dd></div>" for k, v in values.items() if v not in (None, "", [])]
    return f'<dl class="{kind}">' + "\n".join(rows) + "</dl>" if rows else ""


def sentences(items: Iterable[str], kind: str = "") -> str:
    """A list of sentences, each shown whole."""
    return f'<ul class="{kind}">' + "".join(f"<li>{text(item, 2000)}</li>" for item in items) + "</ul>"


def paragraphs(values: Mapping[str, str]) -> str:
    """A paragraph for each text, its name in front."""
    return "".join(f"<p><b>{text(name)}:</b> {text(said, 2000)}</p>" for name, said in values.items())


def lines_of(items: Iterable[str], characters: int) -> int:
    """How many lines of so many characters the texts take, each from a line of its own."""
    return sum(1 + len(item) // characters for item in items)
