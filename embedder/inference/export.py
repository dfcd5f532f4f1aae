"""A member as an ONNX file, from waveform to embedding, kept only if it agrees with torch.

`<member>.onnx` has the input `wave (batch, samples)`, float32 in [−1, 1) at 16 kHz; its outputs are
`embedding (batch, dim)` of unit length and, where there is a head, `logits (batch, singers)`.
`<member>.json` says of it what a user must know.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.architectures import ARCHITECTURES
from embedder.artifact import fingerprint, replacing, write_json
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.errors import UserError
from embedder.inference.checkpoint import Member, load_member
from embedder.models.network import margin_free_logits
from embedder.models.onnx import portable
from embedder.run import Run
from embedder.settings import SETTINGS

EXPORT_FORMAT = 1  # version of the file's inputs, outputs and metadata
OPSET = 17  # of ONNX's operations
TOLERANCE = 1e-4  # largest difference to torch, in the embedding; in the logits times their scale
NEEDED = ("onnx", "onnxruntime")
SEED = 0  # of the waves that are compared

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from torch."""

    path: Path
    difference: float  # largest, in the embedding
    shortest: int  # samples


class _Answers(nn.Module):
    """A portable network, and the head's logits beside its embedding."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.network = portable(member.network)
        self.loss = member.config.loss
        self.head: Tensor | None
        self.register_buffer(
            "head", None if member.head is None else functional.normalize(member.head, dim=1)
        )

    def forward(self, wave: Tensor) -> tuple[Tensor, ...]:
        """`wave (batch, samples)` → `embedding (batch, dim)`, `logits (batch, singers)` if any."""
        embedding = self.network(wave)
        if self.head is None:
            return (embedding,)
        loss = self.loss
        return embedding, margin_free_logits(embedding, self.head, loss.aam_scale, loss.centres)


def check_exportable(member: Member) -> None:
    """Raise `UserError` if the member's architecture cannot be said in ONNX, or what writes it is
    not installed."""
    kind = member.config.model.backbone
    if reason := ARCHITECTURES[kind].not_exportable:
        raise UserError(
            f"member {member.name} is {kind}, which cannot be exported: {reason}; "
            "leave it out with --members"
        )
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(
                f"export needs {name}; install what it needs: "
                "pip install -r requirements-export.txt"
            ) from None


def shortest_samples(config: MemberConfig) -> int:
    """The shortest wave that the network may be asked about: the shortest segment that is legal."""
    low_s: float = SETTINGS["eval_segment_s"].low
    frames = ARCHITECTURES[config.model.backbone].least_frames
    return max(round(low_s * SAMPLE_RATE), (frames - 1) * config.features.hop)


def facts_of(member: Member) -> dict[str, str]:
    """What the file's metadata say of it."""
    return {
        "format": str(EXPORT_FORMAT),
        "member": member.name,
        "checkpoint": member.checkpoint,
        "labels": fingerprint(*member.singers),
        "sample_rate": str(SAMPLE_RATE),
        "hears": member.config.train.recording,
        "shortest_samples": str(shortest_samples(member.config)),
        "segment_s": str(member.config.embed.eval_segment_s),
        "hop_s": str(member.config.embed.eval_hop_s),
    }


def export_members(run: Run, names: Sequence[str], folder: Path) -> list[Exported]:
    """Write the networks of members of a run; all are checked before the first is written.

    Raises:
        UserError: A member cannot be read, or has no network that can be exported.
    """
    members = [load_member(run, name) for name in names]
    for member in members:
        check_exportable(member)
    return [export_member(member, folder) for member in members]


def export_member(member: Member, folder: Path) -> Exported:
    """Write `<member>.onnx` and `<member>.json` into a folder.

    The same member gives the same bytes. Raises `UserError`, and leaves no file, if its
    architecture cannot be exported, if what writes it is not installed, or if onnxruntime's answers
    differ from torch's by more than `TOLERANCE`.
    """
    check_exportable(member)
    import onnx

    path = folder / f"{member.name}.onnx"
    with replacing(path) as temporary:
        _trace(member, temporary)
        graph = onnx.load(temporary)
        onnx.helper.set_model_props(graph, facts_of(member))
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, temporary)
        difference = check_export(member, temporary)
    outputs: dict[str, list[str | int]] = {
        "embedding": ["batch", member.config.model.embedding_dim]
    }
    if member.head is not None:
        outputs["logits"] = ["batch", len(member.singers)]
    about: dict[str, Any] = {
        **facts_of(member),
        "input": {"wave": ["batch", "samples"]},
        "outputs": outputs,
        "singers": list(member.singers),
        "largest_difference_to_torch": float(f"{difference:.1e}"),
    }
    write_json(path.with_suffix(".json"), about)
    return Exported(path, difference, shortest_samples(member.config))


def check_export(member: Member, path: Path) -> float:
    """The largest difference of a file's embeddings to torch's, over waves of several lengths.

    Raises:
        UserError: it is above `TOLERANCE`, or the file does not run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    waves = _waves(member.config)
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        answers = [session.run(None, {"wave": wave}) for wave in waves]
    except Exception as error:  # onnxruntime's own classes have no other in common
        raise UserError(
            f"the export of member {member.name} does not run: {_line(error)}"
        ) from None
    found = [_differences(member, *pair) for pair in zip(waves, answers, strict=True)]
    apart, of_logits = max(pair[0] for pair in found), max(pair[1] for pair in found)
    if not (apart <= TOLERANCE and of_logits <= TOLERANCE):  # so written, NaN is refused too
        raise UserError(
            f"the export of member {member.name} is not kept: its embeddings differ from torch's "
            f"by up to {apart:.1e} and its logits by {of_logits:.1e} of their scale; "
            f"{TOLERANCE:g} is allowed"
        )
    return apart


def _differences(member: Member, wave: Floats, answers: list[Floats]) -> tuple[float, float]:
    """Largest differences of the embeddings, and of the logits in shares of their scale."""
    with torch.inference_mode():
        embedding = member.network(torch.from_numpy(wave))
        apart = float(np.abs(answers[0] - embedding.numpy()).max())
        if member.head is None:
            return apart, 0.0
        loss = member.config.loss
        logits = margin_free_logits(embedding, member.head, loss.aam_scale, loss.centres)
    return apart, float(np.abs(answers[1] - logits.numpy()).max()) / loss.aam_scale


def _waves(config: MemberConfig) -> list[Floats]:
    """Noises and tones of several lengths and levels, `(batch, samples)` each; a row is silent."""
    rng = np.random.default_rng(SEED)
    least, usual = shortest_samples(config), _usual_samples(config)
    waves = []
    for batch, samples in ((1, least), (3, least + 4321), (3, usual)):
        noise = rng.normal(size=(batch, samples))
        pitch, harmonics = rng.uniform(90, 500, size=(batch, 1, 1)), np.arange(1, 9)[:, None]
        phase = 2 * np.pi * pitch * harmonics * np.arange(samples) / SAMPLE_RATE
        tone = (np.sin(phase) / harmonics).sum(axis=1)
        level = rng.uniform(0.001, 0.2, size=(batch, 1))
        waves.append((level * (tone + rng.uniform(0.01, 1) * noise)).astype(np.float32))
    waves[-1][-1] = 0
    return [wave.clip(-1, 1 - 2**-15) for wave in waves]


def _usual_samples(config: MemberConfig) -> int:
    """The length of the segments that a member takes, and no less than the shortest."""
    return max(shortest_samples(config), round(config.embed.eval_segment_s * SAMPLE_RATE))


def _line(error: Exception) -> str:
    """A library's message of several lines on one."""
    return " ".join(str(error).split())


def _trace(member: Member, path: Path) -> None:
    """Write the graph. Two rows of the usual length show the way; both axes stay free."""
    shape = (2, _usual_samples(member.config))
    example = torch.from_numpy(np.random.default_rng(SEED).normal(0, 0.1, shape)).float()
    outputs = ["embedding"] if member.head is None else ["embedding", "logits"]
    free = {"wave": {0: "batch", 1: "samples"}, **{name: {0: "batch"} for name in outputs}}
    try:
        # The exporter by tracing keeps recurrent layers free in both axes; the newer one does not
        # (torch 2.11). What its warnings fear is measured afterwards: `check_export`.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Answers(member).eval(),
                (example,),
                str(path),
                input_names=["wave"],
                output_names=outputs,
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise UserError(f"member {member.name} cannot be exported: {_line(error)}") from None
