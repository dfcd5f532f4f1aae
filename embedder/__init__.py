"""Audio becomes embeddings here: data, networks, losses, training, and the stores they leave.

The Python way in is `Embedder.load(folder).embed(audio)`. What stands in `__all__` is imported when
it is first asked for: `import embedder` alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedder.inference.embed import embed_attenuated as embed_attenuated
    from embedder.inference.embed import embed_songs as embed_songs
    from embedder.inference.embedder import Embedder as Embedder
    from embedder.inference.embedder import Recording as Recording
    from embedder.inference.embedder import RecordingReader as RecordingReader
    from embedder.inference.embedder import decode as decode
    from embedder.inference.embedder import load_embedders as load_embedders
    from embedder.inference.export import export_members as export_members
    from embedder.measures.spectrograms import measure_spectrograms as measure_spectrograms
    from embedder.measures.voices import measure_voices as measure_voices

__version__ = "0.2.0.dev0"

_MODULES = {
    "Embedder": "embedder.inference.embedder",
    "Recording": "embedder.inference.embedder",
    "RecordingReader": "embedder.inference.embedder",
    "decode": "embedder.inference.embedder",
    "embed_attenuated": "embedder.inference.embed",
    "embed_songs": "embedder.inference.embed",
    "export_members": "embedder.inference.export",
    "load_embedders": "embedder.inference.embedder",
    "measure_spectrograms": "embedder.measures.spectrograms",
    "measure_voices": "embedder.measures.voices",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
