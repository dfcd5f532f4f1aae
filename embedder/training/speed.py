"""How fast a member trains and embeds on this machine, measured on noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from embedder.architectures import ARCHITECTURES
from embedder.config import SAMPLE_RATE, MemberConfig
from embedder.data.cache import AudioCache
from embedder.inference.checkpoint import Member
from embedder.inference.embed import CHUNK, embed_wave
from embedder.models.network import default_device
from embedder.training.module import MemberModule, SongSegments
from embedder.training.runner import choose_precision, fitting

MEASURED_S = 3.0  # for each of the two speeds


@dataclass(frozen=True)
class Speed:
    """Seconds of audio a second on this machine."""

    training: float
    embedding: float


def measure_speed(config: MemberConfig, device: str = "auto", seconds: float = MEASURED_S) -> Speed:
    """Seconds of audio that the network takes in a second, in training and in embedding.

    Training: whole steps at the settings' batch and precision, without the drawing of crops. An
    architecture that is fitted instead embeds the same batches without a gradient: each pass of its
    fitting takes at least as long. Embedding: segments as a song's are embedded; where segments
    overlap, a song takes as many times longer.

    Raises:
        UserError: no such device.
    """
    target = default_device(device)
    train = config.train
    with torch.random.fork_rng():
        nothing = SongSegments((), [], AudioCache(Path()), config)
        training = MemberModule(config, train.batch_singers, 1, nothing).to(target)
        training.train()
        step = _pass if ARCHITECTURES[config.model.backbone].fitted else _step
        with fitting():
            each = seconds_each(step(training, target), seconds, target)
        network = training.network.eval().requires_grad_(False)
        head = training.loss.head()
        head = None if head is None else head.detach()
        member = Member("", config, (), "", network, head)
        grid = config.embed
        length_s = grid.eval_segment_s + (CHUNK - 1) * grid.eval_hop_s
        noise = np.random.default_rng(0).normal(0, 3000, round(length_s * SAMPLE_RATE))
        embed = partial(embed_wave, member, noise.astype(np.int16))
        each_song = seconds_each(embed, seconds, target)
    crops = train.batch_singers * train.batch_crops
    return Speed(
        training=crops * train.segment_s / each,
        embedding=CHUNK * grid.eval_segment_s / each_song,
    )


def seconds_each(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """How long `work` takes, on average over as many times as `seconds` allow.

    The first time is left out, as it also makes ready, unless it alone takes longer than that.
    """

    def timed() -> float:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    first = timed()
    if first > seconds:
        return first
    taken = [timed()]
    while sum(taken) < seconds:
        taken.append(timed())
    return sum(taken) / len(taken)


def _batch(training: MemberModule, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    train = training.config.train
    samples = round(train.segment_s * SAMPLE_RATE)
    labels = torch.arange(train.batch_singers, device=device).repeat_interleave(train.batch_crops)
    return 0.1 * torch.randn(len(labels), samples, device=device), labels


def _step(training: MemberModule, device: torch.device) -> Callable[[], None]:
    """Forward, backward, clipping and the optimiser, over the same noise again and again."""
    wave, labels = _batch(training, device)
    optimizer = training.configure_optimizers()["optimizer"]
    half = choose_precision(training.config.train.precision, device) == "bf16-mixed"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            network = training.network
            embedding = network.embed_features(training.mask(network.extract_features(wave)))
            loss = training.loss(embedding, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(training.parameters(), training.config.train.clip_norm)
        optimizer.step()

    return step


def _pass(training: MemberModule, device: torch.device) -> Callable[[], None]:
    """Forward alone: what is fitted embeds its crops in eval mode."""
    wave, _ = _batch(training, device)
    network = training.network.eval()

    def embed() -> None:
        with torch.inference_mode():
            network(wave)

    return embed
