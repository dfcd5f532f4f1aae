"""What Lightning runs: the training module, its validation at song level, and its keeper.

Enters: a `Member` to be trained, a loss, batches. Leaves: `log.csv`, and in `resume/` the last
whole epoch and the best weights so far.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from embedder import metrics
from embedder.artifacts import Run, replacing, write_text
from embedder.catalogue import Song
from embedder.config import MemberConfig
from embedder.data.cache import AudioCache
from embedder.data.segments import cut
from embedder.embed import stem_key
from embedder.losses import LOSSES
from embedder.model.features import SpecAugment
from embedder.model.network import Network, margin_free_logits

Say = Callable[[str], None]


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
        self.mask = SpecAugment(config.features, config.augment)
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
        embedding = self.network.embed_mel(self.mask(self.network.features(wave)))
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


RESULTS = ("top1", "top3", "score", "nll", "segment_score")
COLUMNS = ("epoch", "loss", "lr", *RESULTS, "audio_per_s", "best")


class Keeper(Callback):
    """Keeps the best weights, the state after every whole epoch, and the log; stops early.

    An epoch is better if the score of the validation songs' segments is higher, or equal with a
    lower NLL of the songs. (By the songs' own score, one song more or less decides.) The best
    weights are written before the state, so a kill between the two only repeats the epoch.
    """

    def __init__(self, run: Run, name: str, audio_s: float, say: Say) -> None:
        self.run, self.name, self.audio_s, self.say = run, name, audio_s, say
        self.rows: list[dict[str, Any]] = []
        self.best: tuple[float, float] | None = None
        self.best_epoch = -1
        self.started = 0.0

    @property
    def best_weights(self) -> Any:
        return self.run.resume(self.name) / "best.safetensors"

    @property
    def state(self) -> Any:
        return self.run.resume(self.name) / "last.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        self.best = None if state_dict["best"] is None else tuple(state_dict["best"])
        self.best_epoch = state_dict["best_epoch"]

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        self.training_s = time.perf_counter() - self.started

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, Training)
        result = pl_module.validation_result()
        key = (result["segment_score"], -result["nll"])
        better = self.best is None or key > self.best
        if better:
            self.best, self.best_epoch = key, trainer.current_epoch
            self._save_best(pl_module)
        loss = float(torch.stack(pl_module.losses).mean())
        row = {
            "epoch": trainer.current_epoch + 1,
            "loss": round(loss, 5),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            **{name: round(value, 5) for name, value in result.items()},
            "audio_per_s": round(self.audio_s / max(1e-9, self.training_s)),
            "best": int(better),
        }
        self.rows.append(row)
        self._write_log()
        trainer.should_stop = trainer.should_stop or self.finished(pl_module.config)
        with replacing(self.state) as temporary:
            trainer.save_checkpoint(temporary)
        self.say(
            f"epoch {row['epoch']:>3}/{trainer.max_epochs}  loss {loss:6.3f}  "
            f"validation songs: top-1 {result['top1']:.3f}  top-3 {result['top3']:.3f}  "
            f"score {result['score']:.3f}  NLL {result['nll']:.3f}  "
            f"segments: score {result['segment_score']:.3f}  "
            f"{row['audio_per_s']} s of audio/s{'  *' if better else ''}"
        )

    def finished(self, config: MemberConfig) -> bool:
        """Whether all epochs are done, or none has been better for `patience` of them."""
        done = len(self.rows)
        waited = done - 1 - self.best_epoch
        return done >= config.train.epochs or (done > 0 and waited >= config.train.patience)

    def clear(self) -> None:
        """Take away what only an unfinished training needs, and what killed ones left behind."""
        for file in self.run.resume(self.name).iterdir():
            if file.name != "settings.json":
                file.unlink()
        for file in self.run.member(self.name).glob(".*"):
            file.unlink()

    def _save_best(self, training: Training) -> None:
        tensors = dict(training.network.state_dict())
        head = training.loss.head()
        if head is not None:
            tensors["head.weight"] = head
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        with replacing(self.best_weights) as temporary:
            save_file(whole, temporary)

    def _write_log(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run.log(self.name), text.getvalue())

    def load_best(self, network: nn.Module) -> Tensor | None:
        """Put the best weights into a network; return the head, or None."""
        tensors = load_file(self.best_weights)
        head = tensors.pop("head.weight", None)
        network.load_state_dict(tensors)
        return head
