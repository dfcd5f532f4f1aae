"""Embeddings become predictions here: index, calibration, fusion. No torch.

The Python way in is `SingerIdentifier.load(folder).predict(audio)`. What stands in `__all__` is
imported when it is first asked for, so that `import ensemble` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.identifier import SingerIdentifier as SingerIdentifier
    from ensemble.results import Comparison as Comparison
    from ensemble.results import Enrollment as Enrollment
    from ensemble.results import Prediction as Prediction
    from ensemble.results import Predictions as Predictions
    from ensemble.results import SimilarSongs as SimilarSongs

_MODULES = {
    "Comparison": "ensemble.results",
    "Enrollment": "ensemble.results",
    "Prediction": "ensemble.results",
    "Predictions": "ensemble.results",
    "SimilarSongs": "ensemble.results",
    "SingerIdentifier": "ensemble.identifier",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
