"""The frame of every HTML page: it works offline, in light and dark, on a desktop and on a phone.

A page is a title, a body of escaped HTML, figures or data, and the scripts in `assets/` that draw
them. It loads nothing but plotly's script from beside it: a content security policy forbids it.
"""

from __future__ import annotations

import colorsys
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.figures import Json
from embedder.artifact import write_text

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

# Only what stands in the page, or in files beside it, may run or be shown; every request to
# anywhere else is refused. Pages opened from a disk need "file:" for what lies beside them.
PLOTLY = "plotly.min.js"
SHARED = f'<script src="{PLOTLY}"></script>'
SHARED_SOURCES = " 'self' file:"
POLICY = (
    f"default-src 'none'; script-src 'unsafe-inline'{SHARED_SOURCES}; style-src 'unsafe-inline'; "
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

    A choice of one is not shown, for there is nothing to choose, but counts as made.
    """
    if len(options) < 2:
        return "".join(
            f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
            for value, _ in options
        )
    buttons = "".join(
        f'<label><input type="radio" name="{escape(name)}" value="{escape(value)}"'
        f"{' checked' if position == 0 else ''}><span>{escape(label)}</span></label>"
        for position, (value, label) in enumerate(options)
    )
    return f'<fieldset class="choice"><legend>{escape(legend)}</legend>{buttons}</fieldset>'


def numbered(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Options of a `choice` whose values are their numbers."""
    return [(str(number), label) for number, label in enumerate(labels)]


def plot(name: str) -> str:
    """Where the figure `name` is drawn; one that is too wide scrolls."""
    return f'<div class="plot"><div class="scroll"><div id="{name}"></div></div></div>'


def panel(key: str, text: str) -> str:
    """HTML that a click on a point with `customdata` `key` shows in the page's element "panel"."""
    return f'<template id="panel-{escape(key)}">{text}</template>'


def variants(tag: str, parts: Sequence[str], name: str, attributes: str = "") -> str:
    """An element for each option of a numbered choice, of which the chosen one is shown.

    `parts`: HTML. `attributes`: of the first element alone.
    """
    return "".join(
        f'<{tag} data-when="{name}={number}"{attributes if number == 0 else " hidden"}>'
        f"{part}</{tag}>"
        for number, part in enumerate(parts)
    )


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
    name: str,
    title: str | Sequence[str],
    body: str,
    data: Any = None,
    scripts: Sequence[str] = (),
    note: str = "",
    figures: Mapping[str, Json] | None = None,
) -> str:
    """The whole page as text.

    Args:
        name: File name of the page; one of `PAGES` is marked in the navigation, any other has none.
        title: Plain text; several are those of the options of the choice "split".
        body: HTML, already escaped.
        data: JSON value that the scripts read.
        scripts: Names of files in `assets/`; with any, plotly's own script comes before them.
        note: Plain text at the foot.
        figures: Figures by the name that `plot` gave them, drawn by `switch.js`.
    """
    links = "".join(
        f'<a href="{file}"{" aria-current=page" if file == name else ""}>{label}</a>'
        for file, label in PAGES
    )
    titles = [title] if isinstance(title, str) else title
    heading = variants("span", [escape(one) for one in titles], "split")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">',
        f"<title>{escape(titles[0])}</title>\n<style>\n{_read('page.css')}</style>\n</head>\n<body>",
        f'<header><nav aria-label="Pages">{links}</nav></header>' if name in dict(PAGES) else "",
        f'<main>\n<h1 id="title">{heading if len(titles) > 1 else escape(titles[0])}</h1>',
        f"{body}\n</main>",
        f"<footer>{escape(note)}</footer>" if note else "",
    ]
    if figures:
        data, scripts = {**(data or {}), "figures": figures}, ["switch.js", *scripts]
    if scripts:
        parts.append("<noscript>This figure needs JavaScript, which is switched off.</noscript>")
        parts.append(f'<script type="application/json" id="data">{embedded_json(data)}</script>')
        parts.append(SHARED)
        parts += [f"<script>\n{_read(script)}</script>" for script in ("page.js", *scripts)]
    parts.append("</body>\n</html>\n")
    return "\n".join(part for part in parts if part)


def single_file(text: str) -> str:
    """A page with plotly's script in itself, so that it can be passed on alone."""
    return text.replace(SHARED, f"<script>{plotly_script()}</script>").replace(
        escape(POLICY), escape(POLICY.replace(SHARED_SOURCES, ""))
    )


def write_plotly(folder: Path) -> None:
    """Put plotly's script, about 4.8 MB, beside the pages of a folder, if it is not there."""
    path, script = folder / PLOTLY, plotly_script()
    if not path.is_file() or path.read_text(encoding="utf-8") != script:
        write_text(path, script)


def plotly_script() -> str:
    """plotly.js as text; imported here because only pages with figures need it."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def _lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")


def _read(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
