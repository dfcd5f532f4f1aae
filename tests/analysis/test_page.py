"""Pages: escaping, self-containment, colours that can be told apart."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analysis.page import PALETTE, PLOTLY, choice, colours, embedded_json, escape, page, table

# Colour vision deficiency at full strength on linear RGB: Machado, Oliveira & Fernandes 2009.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
}


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ottosson 2020."""
    to_cone = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return to_lab @ np.cbrt(to_cone @ np.clip(rgb, 0, 1))


def contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG 2."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    light, dark = sorted((float(linear(c) @ weights) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@given(st.text())
def test_escaped_text_is_text_and_nothing_else(text: str) -> None:
    parsed = Elements(f'<p title="{escape(text)}">{escape(text)}</p>')
    assert [tag for tag, _ in parsed.found] == ["p"]
    shown = text.encode("utf-8", "replace").decode("utf-8")
    assert parsed.text == shown
    assert parsed.found[0][1]["title"] == shown


def test_a_name_that_is_no_utf8_can_be_written() -> None:
    assert escape("caf\udce9").encode("utf-8") == b"caf?"


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner)))
def test_embedded_json_reads_back_and_cannot_end_the_script(value: object) -> None:
    text = embedded_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_embedded_json_refuses_what_no_browser_reads() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json([float("nan")])


@pytest.mark.parametrize("count", [0, 1, 20, 24, 25, 200])
def test_colours_all_differ(count: int) -> None:
    found = colours(count)
    assert len(set(found)) == len(found) == count
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in found)


@pytest.mark.parametrize("sight", SIGHT)
def test_twenty_colours_can_be_told_apart(sight: str) -> None:
    seen = [oklab(SIGHT[sight] @ linear(colour)) for colour in colours(20)]
    gaps = [
        float(np.linalg.norm(first - second))
        for row, first in enumerate(seen)
        for second in seen[:row]
    ]
    assert min(gaps) > 0.06  # 0.02 is about the smallest difference that is noticed


def test_colours_stand_out_from_both_backgrounds() -> None:
    for colour in PALETTE:
        assert contrast(colour, "#ffffff") > 1.85
        assert contrast(colour, "#14171c") > 2.25


def test_choice_offers_each_option_and_checks_the_first() -> None:
    parsed = Elements(choice("level", "Level", [("a", "<A>"), ("b", "B")]))
    inputs = [attributes for tag, attributes in parsed.found if tag == "input"]
    assert [one["value"] for one in inputs] == ["a", "b"]
    assert ["checked" in one for one in inputs] == [True, False]
    assert parsed.text == "Level<A>B"
    assert choice("level", "Level", [("a", "A")]) == (
        '<input type="hidden" name="level" value="a">'
    )


def test_table_escapes_and_sets_a_second_line_small() -> None:
    text = table(["name", "value"], [("<b>", "0.5\n0.4 to <0.6>")], numeric=[1], last_bold=True)
    assert "<td>&lt;b&gt;</td>" in text
    assert "<td class=number>0.5<small>0.4 to &lt;0.6&gt;</small></td>" in text
    assert 'class="last-bold"' in text


def test_a_page_asks_for_nothing_outside() -> None:
    text = page("tsne.html", "A <title>", "<p>body</p>", {"a": "</script>"}, ["tsne.js"], "note")
    elements = Elements(text).found
    for tag, attributes in elements:
        assert tag not in {"iframe", "object", "embed", "base"}
        assert attributes.get("src") in (None, PLOTLY), tag
        if "href" in attributes:
            href = str(attributes["href"])
            assert href == "data:," or re.fullmatch(r"[a-z]+\.html", href), href
    policies = [
        str(attributes["content"])
        for tag, attributes in elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert "http" not in policies[0]
    assert sum(tag == "script" for tag, _ in elements) == 4  # data, plotly, page.js, tsne.js
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]
    assert "<title>A &lt;title&gt;</title>" in text
    assert len(text.encode()) < 60_000


def test_a_page_without_figures_carries_no_script() -> None:
    text = page("index.html", "Title", "<p>body</p>")
    assert "<script" not in text
    assert '<a href="index.html" aria-current=page>' in text
    assert len(text) < 20_000
