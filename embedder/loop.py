"""What Lightning runs: the training module, with its validation at song level.

Enters: a config, batches of crops, whole validation songs. Leaves: a trained network and loss, and
after each epoch what the validation songs say (`validation_result`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from embedder import metrics
from embedder.catalogue import Song
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.segments import cut
from embedder.embed import stem_key
from embedder.losses import LOSSES
from embedder.model.features import SpecAugment
from embedder.model.network import Network, margin_free_logits


class WholeSongs(Dataset[tuple[Tensor, int]]):
    """A song's segments without overlap, `(segments, samples)` int16, and its label."""

    def __init__(
        self, songs: tuple[Song, ...], labels: list[int], cache: AudioCache, config: MemberConfig
    ) -> None:
        self.songs, self.labels, self.cache, self.config = songs, labels, cache, config

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        key = stem_key(self.songs[index], self.config.train.stem)
        length_s = self.config.embed.eval_segment_s
        _, segments = cut(self.cache.samples(key), length_s, length_s)
        return torch.from_numpy(segments.copy()), self.labels[index]

    def middles(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the middle segments of all songs, `(batch, samples)`, and their labels."""
        for first in range(0, len(self), 32):
            items = [self[index] for index in range(first, min(first + 32, len(self)))]
            waves = torch.stack([segments[len(segments) // 2] for segments, _ in items])
            yield waves, torch.tensor([label for _, label in items])


class Training(lightning.LightningModule):
    """One member's training step, schedule and song-level validation.

    A song's validation answer: the mean of its segments' margin-free logits where the loss has
    class weights; else the cosines of its embedding to the singers' mean embeddings over the middle
    segments of `prototypes`, the training songs.
    """

    def __init__(
        self, config: MemberConfig, singers: int, steps: int, prototypes: WholeSongs
    ) -> None:
        super().__init__()
        self.config = config
        self.singers = singers
        self.steps = steps
        self.prototypes = prototypes
        self.network = Network(config)
        self.loss = LOSSES[config.loss.loss](config.loss, singers, config.model.embedding_dim)
        self.mask = SpecAugment(config.features, config.augment, self.network.features.mel_rows)
        self.losses: list[Tensor] = []
        self.answers: list[tuple[Tensor, Tensor, int]] = []  # song's logits, its segments', label
        self.centres: Tensor | None = None

    def configure_optimizers(self) -> Any:
        train = self.config.train
        optimizer = torch.optim.AdamW(
            [*self.network.parameters(), *self.loss.parameters()],
            lr=train.lr,
            weight_decay=train.weight_decay,
            fused=True,
        )
        warmup = max(1, round(train.lr_warmup * self.steps))

        def factor(step: int) -> float:
            """Linear growth, then half a cosine down to 1 % (Loshchilov & Hutter 2017, eq. 5)."""
            if step < warmup:
                return (step + 1) / warmup
            share = min(1.0, (step - warmup) / max(1, self.steps - warmup))
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """By norm, over all parameters. Lightning's own way refuses fused optimisers."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, gradient_clip_val or math.inf)

    def on_train_epoch_start(self) -> None:
        self.losses = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if index == 0:
            # Masks and dropout draw from the global generator: tie it to the epoch, so that a
            # resumed training draws what an undisturbed one would. Not at the epoch's start: a
            # loader that begins anew draws a number of its own after that, one that goes on before.
            torch.manual_seed(self.config.train.seed * 100_003 + self.current_epoch)
        wave, labels = batch
        self.loss.set_progress(self.global_step / self.steps)
        embedding = self.network.embed_features(self.mask(self.network.features(wave)))
        loss: Tensor = self.loss(embedding, labels)
        self.losses.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.answers = []
        self.centres = None
        if self.loss.head() is None:
            self.centres = self._singer_centres()

    def _singer_centres(self) -> Tensor:
        total = torch.zeros(self.singers, self.config.model.embedding_dim, device=self.device)
        for waves, labels in self.prototypes.middles():
            embedding = self.network(waves.to(self.device).float() / 32768)
            total.index_add_(0, labels.to(self.device), embedding)
        return functional.normalize(total, dim=1)

    def validation_step(self, batch: tuple[Tensor, int], _: int) -> None:
        segments, label = batch
        embedding = self.network(segments.float() / 32768)
        head = self.loss.head()
        if head is not None:
            parts = margin_free_logits(embedding, head, self.config.loss.aam_scale)
            song = parts.mean(dim=0)
        else:
            assert self.centres is not None
            centres = self.config.loss.aam_scale * self.centres
            parts = embedding @ centres.T
            song = centres @ functional.normalize(embedding.mean(dim=0), dim=0)
        self.answers.append((song.float().cpu(), parts.float().cpu(), int(label)))

    def validation_result(self) -> dict[str, float]:
        """Top-1, top-3, score and NLL of the validation songs of the epoch that just ended.

        `segment_score` is the score of their single segments: ten times as many answers, so less
        a matter of luck, and what excerpts depend on.
        """
        songs, parts, labels = zip(*self.answers, strict=True)
        answers = torch.log_softmax(torch.stack(songs).double(), dim=1).numpy()
        truth = np.array(labels)
        segments = torch.cat(parts).numpy()
        top1 = metrics.top_k(truth, answers, 1)
        top3 = metrics.top_k(truth, answers, 3)
        return {
            "top1": top1,
            "top3": top3,
            "score": top1 + 0.5 * top3,
            "nll": metrics.nll(truth, answers),
            "segment_score": metrics.score(np.repeat(truth, [len(p) for p in parts]), segments),
        }
