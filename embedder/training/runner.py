"""One resumable training, for members, separator, detector and pre-training alike.

`fit` trains a Lightning module on a loader. Killed at any moment and called again with the same
folder, it resumes after the last whole epoch and ends in the same weights.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from embedder.config import TrainConfig
from embedder.models.network import reuse_freed_memory
from embedder.training.checkpoint_callback import CheckpointCallback, EpochResult, Say, Schedule
from embedder.training.folder import TrainingFolder


def fit(
    module: lightning.LightningModule,
    loader: Any,
    folder: TrainingFolder,
    schedule: Schedule,
    evaluate: Callable[[], EpochResult],
    *,
    device: torch.device,
    precision: Any,
    say: Say,
    show_bar: bool = False,
    validation: Any = None,
    weights: Callable[[], dict[str, Tensor]] | None = None,
) -> CheckpointCallback:
    """Train `module` from the beginning, or from the state that `folder` holds.

    Args:
        module: What learns; `training_step` gives the loss.
        loader: Training batches. Its sampler's `set_epoch` decides what an epoch holds.
        folder: Where log, best weights and state are kept.
        schedule: Epochs, seed, clipping, early stopping.
        evaluate: Called after each epoch, when `validation` has been gone through.
        device: Where to train.
        precision: Lightning's name of the arithmetic (see `choose_precision`).
        say: Gets one line an epoch.
        show_bar: Show a progress bar.
        validation: Validation batches, if `module` has a `validation_step`.
        weights: The tensors that are kept of the best epoch.

    Returns:
        The callback, with the rows of all epochs.

    Raises:
        KeyboardInterrupt: Ctrl-C; Lightning itself would return quietly.
        UserError: The state is of another version.
    """
    callback = CheckpointCallback(folder, schedule, evaluate, say, weights)
    trainer = build_trainer(device, precision, callback, show_bar)
    checkpoint = folder.state if folder.state.is_file() else None
    with fitting():
        trainer.fit(module, loader, validation, ckpt_path=checkpoint, weights_only=True)
    if not callback.finished:
        raise KeyboardInterrupt
    return callback


def build_trainer(
    device: torch.device, precision: Any, callback: CheckpointCallback, show_bar: bool
) -> lightning.Trainer:
    """Lightning's loop, with nothing of its own on disk, and on the screen a bar if wanted."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)  # tips and remarks on the hardware
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        precision=precision,
        max_epochs=callback.schedule.epochs,
        callbacks=[callback, *([RichProgressBar(leave=False)] if show_bar else [])],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=show_bar,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


@contextmanager
def fitting() -> Iterator[None]:
    """Numbers too small for a normal float count as 0, freed memory is kept, Lightning is quiet."""
    reuse_freed_memory()
    torch.set_flush_denormal(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        torch.set_flush_denormal(False)  # it holds for the whole thread, numpy too


def choose_precision(wanted: str, device: torch.device) -> Any:
    """Lightning's name of the arithmetic.

    Args:
        wanted: "auto" (bf16 autocast where the device has the instructions), "bf16" or "fp32".
        device: Where to train.
    """
    if wanted == "auto":
        if device.type == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        wanted = "bf16" if able else "fp32"
    return "bf16-mixed" if wanted == "bf16" else "32-true"


def adamw(groups: list[dict[str, Any]], train: TrainConfig, steps: int) -> dict[str, Any]:
    """Fused AdamW; the rate grows linearly over `lr_warmup`, then falls as half a cosine to 1 %.

    Weights decay only in matrices and convolution kernels, not in norms and biases, which have one
    dimension.

    Args:
        groups: Parameters; a group may have its own `lr` and `weight_decay`.
        train: Rate, warm-up, decay.
        steps: Of the whole training.

    Returns:
        What Lightning expects of `configure_optimizers`.

    Source:
        The cosine: Loshchilov & Hutter, ICLR 2017, eq. 5.
    """
    parts = []
    for group in groups:
        matrices = [p for p in group["params"] if p.ndim > 1]
        rest = [p for p in group["params"] if p.ndim <= 1]
        parts += [{**group, "params": matrices}] if matrices else []
        parts += [{**group, "params": rest, "weight_decay": 0.0}] if rest else []
    optimizer = torch.optim.AdamW(parts, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    warmup = max(1, round(train.lr_warmup * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        share = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
