"""What Lightning runs: the training module, with its validation at song level.

Enters: a config, batches of crops, whole validation songs. Leaves: a trained network and loss, and
after each epoch what the validation songs say (`validation_result`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from embedder import metrics
from embedder.catalogue import Song
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.segments import cut
from embedder.embed import stem_key
from embedder.losses import build_loss
from embedder.model.features import SpecAugment
from embedder.model.network import Network, margin_free_logits
from embedder.optimise import adamw, clip_gradients


class WholeSongs(Dataset[tuple[Tensor, int]]):
    """A song's segments without overlap, `(segments, samples)` int16, and its label."""

    def __init__(
        self, songs: tuple[Song, ...], labels: list[int], cache: AudioCache, config: MemberConfig
    ) -> None:
        self.songs, self.labels, self.cache, self.config = songs, labels, cache, config

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        key = stem_key(self.songs[index], self.config.train.recording)
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
        self.loss = build_loss(config.loss, singers, config.model.embedding_dim)
        self.mask = SpecAugment(config.features, config.augment, self.network.features.mel_rows)
        self.losses: list[Tensor] = []
        self.answers: list[tuple[Tensor, Tensor, int]] = []  # song's logits, its segments', label
        self.centres: Tensor | None = None

    def configure_optimizers(self) -> Any:
        return adamw(self._parameters_by_rate(), self.config.train, self.steps)

    def _parameters_by_rate(self) -> list[dict[str, Any]]:
        """What learns: all at the settings' rate, but a backbone's published weights at its own."""
        backbone = self.network.backbone
        published = list(getattr(backbone, "pretrained_parameters", tuple)())
        apart = {id(parameter) for parameter in published}
        everything = [*self.network.parameters(), *self.loss.parameters()]
        groups = [{"params": [p for p in everything if p.requires_grad and id(p) not in apart]}]
        if published:
            rate = self.config.train.lr * backbone.pretrained_rate
            groups.append({"params": published, "lr": rate})
        return groups

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        clip_gradients(optimizer, gradient_clip_val)

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
        embedding = self.network.embed_features(self.mask(self.network.hear(wave)))
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
            loss = self.config.loss
            parts = margin_free_logits(embedding, head, loss.aam_scale, loss.centres)
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
