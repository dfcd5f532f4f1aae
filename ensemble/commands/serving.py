"""How `serve` loads what answers recordings, once, and hears them as `predict` hears files.

Enters: a run or a bundle. Leaves: a `FusionPredictor`, for as long as it is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.artifact import fingerprint
from embedder.console import say
from embedder.errors import Command, UserError
from embedder.run import Run, locked

if TYPE_CHECKING:
    from ensemble.commands.hearing import Listeners
    from ensemble.serving.answers import Limits
    from ensemble.serving.hearing import Hear, Recording
    from ensemble.serving.predictor import Beside, FusionPredictor


@contextmanager
def open_predictor(
    run_dir: Path | None,
    bundle: Path | None,
    limits: Limits,
    beside: Callable[[Run, tuple[str, ...]], Beside],
    device: str = "auto",
    tell: Callable[[str], None] = say,
) -> Iterator[FusionPredictor]:
    """Yield what answers recordings, of a run or of a bundle.

    `beside` is asked for what else is known of a run's songs, with the members that answer. A
    bundle has no songs; what is enrolled in it is forgotten when the block ends, for a bundle stays
    as it was packed. Raises `UserError` if the run or the bundle cannot predict.
    """
    from embedder.models.network import reuse_freed_memory
    from ensemble.bundling.bundle import bundle_or_run
    from ensemble.commands.hearing import load_listeners
    from ensemble.fusion.pipeline import open_fusion
    from ensemble.index.database import LOCK_S
    from ensemble.index.table import copy_table
    from ensemble.serving.predictor import Beside, FusionPredictor

    reuse_freed_memory()
    with ExitStack() as stack:
        run, chosen = stack.enter_context(bundle_or_run(run_dir, bundle, None))
        fusion, indexes = open_fusion(run, chosen)
        members = list(indexes)
        hear = hearer(load_listeners(run, fusion, members, device), limits, tell)
        table = run.index_table
        if bundle is not None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="serve-"))
            table = Path(scratch, table.name)
            copy_table(run.index_table, table, members)
        predictor = FusionPredictor(
            fusion,
            table,
            hear,
            members=members,
            beside=Beside() if bundle is not None else beside(run, tuple(members)),
            limits=limits,
            lasting=bundle is None,
            writing=nullcontext if bundle is not None else partial(locked, run, "fusion", LOCK_S),
        )
        with suppress(UserError):  # limits may be smaller than that
            predictor.recognise(_noise())  # what is loaded on first use is there from then on
        yield predictor


def _noise() -> bytes:
    """A second of faint noise as a wav file."""
    import io

    import numpy as np
    import soundfile

    from embedder.config import SAMPLE_RATE

    made = io.BytesIO()
    wave = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)
    soundfile.write(made, wave.clip(-1, 1), SAMPLE_RATE, format="WAV")
    return made.getvalue()


def hearer(listeners: Listeners, limits: Limits, tell: Callable[[str], None] = say) -> Hear:
    """What hears recordings with members that are loaded, as `predict` hears files with them.

    Members that listen to vocals hear what the run's separator makes of a recording, or are left
    out. Raises `UserError` if no member can hear.
    """
    from embedder.config import SAMPLE_RATE
    from embedder.data.audio import decode_recording
    from embedder.inference.embed_files import embed_waves
    from embedder.inference.separate import separated_vocals
    from ensemble.commands.hearing import separator_for
    from ensemble.serving.hearing import Recording

    deaf = [m.name for m in listeners.members if m.config.train.recording == "vocals"]
    separator = separator_for(listeners, tell) if deaf else None
    members = [m for m in listeners.members if separator or m.name not in deaf]
    if not members:
        raise UserError(
            f"all members listen to vocals ({', '.join(deaf)}); train a separator: "
            f"{Command('train-separator')}"
        )
    if len(members) < len(listeners.members):
        tell(f"without a separator these stay silent: {', '.join(deaf)}")
    stems = {member.config.train.recording for member in members}

    def hear(data: bytes) -> Recording:
        audio = decode_recording(data, limits.max_minutes * 60)
        wave = audio.samples
        waves = {"mix": [wave]} if "mix" in stems else {}
        if separator is not None:
            waves["vocals"] = [separated_vocals(separator, wave)]
        stores = embed_waves(members, waves, ["recording"], listeners.listening, listeners.detector)
        sound = fingerprint(wave.tobytes())
        return Recording(len(wave) / SAMPLE_RATE, sound, tuple(stores), audio.notes)

    return hear
