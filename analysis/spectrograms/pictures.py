"""Spectrograms as small pictures.

Enters: levels `(mels, frames)`, eight bits each. Leaves: PNG images of 256 colours as text for a
page, and where on the picture a frequency lies.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

COLOURS = "magma"  # of matplotlib: as bright as it is loud, also to those who see few colours


def palette() -> list[int]:
    """256 colours as red, green, blue, 0 to 255 each, quietest first."""
    from matplotlib import colormaps

    table = colormaps[COLOURS](np.arange(256))[:, :3]
    return [int(one) for one in np.asarray(table * 255).round().ravel()]


def picture(levels: NDArray[np.uint8], colours: Sequence[int]) -> str:
    """A `data:` address of the picture of `levels (mels, frames)`, the lowest band at the foot."""
    from PIL import Image

    mels, frames = levels.shape
    image = Image.frombytes("P", (frames, mels), np.ascontiguousarray(levels[::-1]).tobytes())
    image.putpalette(list(colours))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def height(hertz: float, centres: Sequence[float]) -> float:
    """How far up a picture with bands around `centres`, Hz, a frequency lies: 0 foot, 1 top."""
    places = (np.arange(len(centres)) + 0.5) / len(centres)
    return float(np.interp(hertz, centres, places))
