"""The colours of reports, and figures of matplotlib -> text for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by eyes of every kind, and in grey print (Okabe and Ito's blue and vermilion, darkened for white).
INK = "#1c2127"
MUTED = "#646d78"
RULE = "#e1e4e8"
PAPER = "#ffffff"
TRAINING = "#c4560f"
VALIDATION = "#1f63a8"


def inline_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element for a page: no outside reference, text stays text in the page's font and colours.

    The page styles it by the custom properties --ink, --muted, --rule, --training, --validation and --card.
    """
    import io
    import re
    from html import escape

    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        # Every entry None: no creation date, so equal figures are equal text, and no metadata with outside addresses.
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    svg = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    # A page has one of each id: those that nothing refers to go, the others are made from the salt above.
    referred = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match.group(0) if match.group(1) in referred else "", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    box = re.search(r'viewBox="([^"]*)"', svg)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox; expected one.")
    opening = f'<svg viewBox="{box.group(1)}" role="img" aria-label="{escape(description)}">'
    svg = opening + svg[svg.index(">") + 1 :].replace("xlink:href", "href")
    named = {INK: "ink", MUTED: "muted", RULE: "rule", TRAINING: "training", VALIDATION: "validation", PAPER: "card"}
    for colour, name in named.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.strip()
