"""One self-contained HTML page: it works offline, in light and dark, on a desktop and on a phone.

Enters: a title, a body made of escaped HTML, data for the script, and the names of the script files
beside this one. Leaves: the text of a page that loads nothing from outside (a content security
policy forbids it), and the few pieces that pages are made of.
"""

from __future__ import annotations

import colorsys
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
PAGES = (
    ("index.html", "Overview"),
    ("tsne.html", "Map"),
    ("confusion.html", "Confusion"),
    ("albums.html", "Albums"),
    ("reliability.html", "Reliability"),
    ("members.html", "Members"),
    ("timeline.html", "Timeline"),
    ("voices.html", "Voices"),
    ("spectrograms.html", "Spectrograms"),
    ("robustness.html", "Robustness"),
    ("training.html", "Training"),
)

# 24 colours found by maximising the smallest OKLab distance between any two, as seen with normal
# sight, protanopia and deuteranopia (Machado et al. 2009), each with a contrast of at least 1.9 to
# the light and the dark background. The order is farthest first, so few singers lie furthest apart.
PALETTE = (
    "#0f78a5", "#b4c34b", "#5ac3ff", "#5a00f0", "#873c3c", "#b469ff", "#5aa500", "#87690f",
    "#87a587", "#f0a5c3", "#5a4b96", "#f069c3", "#8700c3", "#a57887", "#f0785a", "#7869d2",
    "#9696f0", "#d22d5a", "#961e78", "#3c785a", "#00a5b4", "#00d287", "#963cff", "#c33cb4",
)  # fmt: skip
UNKNOWN_COLOUR = "#8a8f98"
GOLDEN = 0.6180339887498949

# Only what stands in the page may run or be shown; every request to anywhere is refused. Sound
# alone may lie in files beside the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
)


def escape(text: str) -> str:
    """Text for HTML, also inside a quoted attribute; what UTF-8 cannot hold becomes `?`.

    File names may hold any character but "/", and on Linux bytes that are no UTF-8 at all.
    """
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True)


def embedded_json(value: Any) -> str:
    """JSON that can stand inside a `<script>` element: ASCII only, with `<`, `>` and `&` escaped.

    Raises `ValueError` for a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def colours(count: int) -> list[str]:
    """`count` different colours as "#rrggbb": `PALETTE` first, then hues a golden angle apart."""
    chosen = list(PALETTE[:count])
    step = 0
    while len(chosen) < count:
        lightness = (0.42, 0.55, 0.66)[step % 3]
        saturation = (0.75, 0.5)[step // 3 % 2]
        rgb = colorsys.hls_to_rgb(step * GOLDEN % 1.0, lightness, saturation)
        colour = "#" + "".join(f"{round(channel * 255):02x}" for channel in rgb)
        if colour not in chosen:
            chosen.append(colour)
        step += 1
    return chosen


def choice(name: str, legend: str, options: Sequence[tuple[str, str]]) -> str:
    """A row of radio buttons: `options` are (value, label), the first is chosen.

    A choice of one is left out, for there is nothing to choose.
    """
    if len(options) < 2:
        return ""
    buttons = "".join(
        f'<label><input type="radio" name="{escape(name)}" value="{escape(value)}"'
        f"{' checked' if position == 0 else ''}><span>{escape(label)}</span></label>"
        for position, (value, label) in enumerate(options)
    )
    return f'<fieldset class="choice"><legend>{escape(legend)}</legend>{buttons}</fieldset>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Iterable[int] = (),
    last_bold: bool = False,
) -> str:
    """An HTML table of plain texts that scrolls sideways on a narrow screen.

    What follows a line feed stands smaller, on a second line. Columns in `numeric` are set flush
    right; `last_bold` sets the last row in bold.
    """
    right = set(numeric)

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if column in right else ''}>{_lines(text)}</{tag}>"
            for column, text in enumerate(texts)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    kind = ' class="last-bold"' if last_bold else ""
    return (
        f'<div class="scroll" tabindex="0"><table{kind}><thead><tr>{cells("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def page(
    name: str, title: str, body: str, data: Any = None, scripts: Sequence[str] = (), note: str = ""
) -> str:
    """The whole page as text.

    `name`: file name of the page; one of `PAGES` is marked in the navigation, any other has none.
    `title`: plain text.
    `body`: HTML, already escaped. `data`: JSON value that the scripts read. `scripts`: names of
    files beside this one; with any, plotly's own script is written into the page before them.
    `note`: plain text at the foot.
    """
    links = "".join(
        f'<a href="{file}"{" aria-current=page" if file == name else ""}>{label}</a>'
        for file, label in PAGES
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>\n<style>\n{_read('page.css')}</style>\n</head>\n<body>",
        f'<header><nav aria-label="Pages">{links}</nav></header>' if name in dict(PAGES) else "",
        f'<main>\n<h1 id="title">{escape(title)}</h1>\n{body}\n</main>',
        f"<footer>{escape(note)}</footer>" if note else "",
    ]
    if scripts:
        parts.append("<noscript>This figure needs JavaScript, which is switched off.</noscript>")
        parts.append(f'<script type="application/json" id="data">{embedded_json(data)}</script>')
        parts.append(f"<script>{_plotly()}</script>")
        parts += [f"<script>\n{_read(script)}</script>" for script in ("page.js", *scripts)]
    parts.append("</body>\n</html>\n")
    return "\n".join(part for part in parts if part)


def _lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")


def _read(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """plotly.js as text, about 4.8 MB; imported here because only pages with figures need it."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script
