"""The Lightning module of a member: network, loss, and validation at song level."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from embedder import metrics
from embedder.catalogue import Song
from embedder.config import MemberConfig
from embedder.data.audio import FULL_SCALE
from embedder.data.cache import AudioCache
from embedder.inference.aggregate import song_logits, song_weights
from embedder.inference.detector import Detector, Voices
from embedder.inference.embed import segment_weights, stem_key
from embedder.inference.segments import cut
from embedder.models.frontends import SpecAugment
from embedder.models.network import Network, margin_free_logits
from embedder.training.checkpoint_callback import EpochResult
from embedder.training.losses import ClassLoss, build_loss
from embedder.training.runner import adamw

# A song's segments (segments, samples) int16, their share of voice (segments,), its label.
SegmentBatch = tuple[Tensor, Tensor, int]


class SongSegments(Dataset[SegmentBatch]):
    """A song's segments without overlap, how much each weighs, and its label.

    `detector` says where someone sings; without it every segment weighs 1.
    """

    def __init__(
        self,
        songs: tuple[Song, ...],
        labels: list[int],
        cache: AudioCache,
        config: MemberConfig,
        detector: Detector | None = None,
    ) -> None:
        self.songs, self.labels, self.cache, self.config = songs, labels, cache, config
        self.voices = Voices(detector, cache)

    def __len__(self) -> int:
        return len(self.songs)

    def __getitem__(self, index: int) -> SegmentBatch:
        stem = self.config.train.recording
        key = stem_key(self.songs[index], stem)
        length_s = self.config.embed.eval_segment_s
        starts, segments = cut(self.cache.samples(key), length_s, length_s)
        weight = segment_weights(self.voices.of(key, stem), starts, segments.shape[1])
        return torch.from_numpy(segments.copy()), torch.from_numpy(weight), self.labels[index]

    def middles(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the middle segments of all songs, `(batch, samples)`, and their labels."""
        for first in range(0, len(self), 32):
            items = [self[index] for index in range(first, min(first + 32, len(self)))]
            waves = torch.stack([segments[len(segments) // 2] for segments, _, _ in items])
            yield waves, torch.tensor([label for _, _, label in items])


@dataclass(frozen=True, eq=False)
class SongScores:
    """The scores of one validation song."""

    song: NDArray[np.float64]  # (singers,), logits
    segments: NDArray[np.float64]  # (segments, singers), logits
    weights: NDArray[np.float64]  # (segments,), share of voice, scaled to a mean of 1
    label: int


class MemberModule(lightning.LightningModule):
    """One member's training step, schedule and song-level validation.

    A song is validated as it is predicted, in float32 and weighted by voice: by the aggregate of
    its segments' margin-free logits where the loss has class weights; else by the cosines of its
    embedding to the singers' mean embeddings over the middle segments of `prototypes`, the training
    songs.
    """

    def __init__(
        self, config: MemberConfig, singers: int, steps: int, prototypes: SongSegments
    ) -> None:
        super().__init__()
        self.config = config
        self.singers = singers
        self.steps = steps
        self.prototypes = prototypes
        self.network = Network(config)
        self.loss = build_loss(config.loss, singers, config.model.embedding_dim)
        self.mask = SpecAugment(config.features, config.augment, self.network.features.mel_rows)
        self.song_scores: list[SongScores] = []
        self.centres: Tensor | None = None

    def configure_optimizers(self) -> Any:
        return adamw(self._parameters_by_rate(), self.config.train, self.steps)

    def _parameters_by_rate(self) -> list[dict[str, Any]]:
        """What learns: all at the settings' rate, but published and class weights at their own.

        Class weights do not decay: every loss here uses their directions alone.
        """
        backbone, lr = self.network.backbone, self.config.train.lr
        published = list(getattr(backbone, "pretrained_parameters", tuple)())
        apart = {id(parameter) for parameter in published}
        own = [p for p in self.network.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, Any]] = [{"params": own}]
        if published:
            groups.append({"params": published, "lr": lr * backbone.pretrained_rate})
        for part in self.loss.modules():
            if isinstance(part, ClassLoss):
                weights = list(part.parameters())
                groups.append({"params": weights, "lr": lr * part.rate, "weight_decay": 0.0})
        return groups

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        wave, labels = batch
        self.loss.set_progress(self.global_step / self.steps)
        embedding = self.network.embed_features(self.mask(self.network.extract_features(wave)))
        loss: Tensor = self.loss(embedding, labels)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.song_scores = []
        self.centres = None
        if self.loss.head() is None:
            self.centres = self._singer_centres()

    def _singer_centres(self) -> Tensor:
        total = torch.zeros(self.singers, self.config.model.embedding_dim, device=self.device)
        for waves, labels in self.prototypes.middles():
            embedding = self.network(waves.to(self.device).float() / FULL_SCALE)
            total.index_add_(0, labels.to(self.device), embedding)
        return functional.normalize(total, dim=1)

    def validation_step(self, batch: SegmentBatch, _: int) -> None:
        segments, weight, label = batch
        weights = song_weights(weight.cpu().numpy())
        with torch.autocast(segments.device.type, enabled=False):
            embedding = self.network(segments.float() / FULL_SCALE)
            head = self.loss.head()
            if head is not None:
                loss = self.config.loss
                parts = margin_free_logits(embedding, head, loss.aam_scale, loss.centres)
                logits = parts.cpu().double().numpy()
                song = song_logits(logits, segment_weight=weights)
            else:
                assert self.centres is not None
                centres = self.config.loss.aam_scale * self.centres
                logits = (embedding @ centres.T).cpu().double().numpy()
                weighted = torch.from_numpy(weights).to(embedding) @ embedding
                song = (centres @ functional.normalize(weighted, dim=0)).cpu().double().numpy()
        self.song_scores.append(SongScores(song, logits, weights, int(label)))

    def validation_result(self) -> dict[str, float]:
        """Top-1, top-3, score and NLL of the validation songs of the epoch that just ended.

        `segment_score` is the score of their single segments, weighted by voice: ten times as many
        answers, so less a matter of luck, and what excerpts depend on.
        """
        songs = np.stack([scores.song for scores in self.song_scores])
        answers = songs - np.logaddexp.reduce(songs, axis=1, keepdims=True)
        truth = np.array([scores.label for scores in self.song_scores])
        segments = np.concatenate([scores.segments for scores in self.song_scores])
        weights = np.concatenate([scores.weights for scores in self.song_scores])
        owners = np.repeat(truth, [len(scores.segments) for scores in self.song_scores])
        first, among = (
            np.average(metrics.top_k_hits(owners, segments, k), weights=weights) for k in (1, 3)
        )
        top1 = metrics.top_k(truth, answers, 1)
        top3 = metrics.top_k(truth, answers, 3)
        return {
            "top1": top1,
            "top3": top3,
            "score": top1 + 0.5 * top3,
            "nll": metrics.nll(truth, answers),
            "segment_score": float(first + 0.5 * among),
        }

    def epoch_result(self) -> EpochResult:
        """The validation of the epoch that just ended.

        An epoch is better if the score of the songs' segments is higher, or equal with a lower NLL
        of the songs. By the songs' own score, one song more or less would decide.
        """
        result = self.validation_result()
        return EpochResult(
            result,
            f"  validation songs: top-1 {result['top1']:.3f}  top-3 {result['top3']:.3f}  "
            f"score {result['score']:.3f}  NLL {result['nll']:.3f}  "
            f"segments: score {result['segment_score']:.3f}",
            (result["segment_score"], -result["nll"]),
        )
