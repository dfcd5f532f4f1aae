"""Pictures: every level comes back from its colour, the lowest band at the foot."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from analysis.spectrograms.pictures import height, palette, picture


def test_levels_come_back_from_their_colours() -> None:
    levels = np.arange(240, dtype=np.uint8).reshape(12, 20)
    colours = palette()
    address = picture(levels, colours)
    kind, _, data = address.partition(";base64,")
    assert kind == "data:image/png"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (20, 12)
    seen = np.asarray(image.convert("RGB"))
    table = np.array(colours).reshape(256, 3)
    np.testing.assert_array_equal(seen[::-1], table[levels])
    assert picture(levels, colours) == address


def test_louder_is_brighter() -> None:
    red, green, blue = np.array(palette()).reshape(256, 3).T
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert (np.diff(light[::16]) > 0).all()


def test_heights_of_frequencies() -> None:
    centres = [100.0, 200.0, 400.0, 800.0]
    assert height(100, centres) == pytest.approx(0.125)
    assert height(800, centres) == pytest.approx(0.875)
    assert height(300, centres) == pytest.approx(0.5)
