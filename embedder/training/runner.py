"""What every fit of a network shares: its arithmetic, its memory, and Lightning kept quiet.

Enters: a config, a device. Leaves: Lightning's name of the precision, and the context in which
`Trainer.fit` is called.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch import nn

from embedder.config import MemberConfig, TrainConfig
from embedder.models.network import reuse_freed_memory


def open_trainer(
    device: torch.device,
    arithmetic: Any,
    epochs: int,
    clip_norm: float,
    keeper: Callback,
    show_bar: bool,
) -> lightning.Trainer:
    """Lightning's loop with nothing of its own on disk or on the screen but a bar, if wanted.

    `arithmetic` is what `precision` gives; `keeper` writes what a killed training goes on from.
    """
    quiet_lightning()
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=1,
        precision=arithmetic,
        max_epochs=epochs,
        gradient_clip_val=clip_norm,
        callbacks=[keeper, *([RichProgressBar(leave=False)] if show_bar else [])],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=show_bar,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


@contextmanager
def fitting() -> Iterator[None]:
    """Numbers too small for a normal float count as 0, freed memory is kept, no warnings."""
    reuse_freed_memory()
    torch.set_flush_denormal(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        torch.set_flush_denormal(False)  # it holds for the whole thread, numpy too


def precision(config: MemberConfig, device: torch.device) -> Any:
    """Lightning's name of the arithmetic: bf16 autocast where the device has the instructions."""
    chosen = config.train.precision
    if chosen == "auto":
        if device.type == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        chosen = "bf16" if able else "fp32"
    return "bf16-mixed" if chosen == "bf16" else "32-true"


def quiet_lightning() -> None:
    """Lightning's remarks on hardware and tips are not for this program's users."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def adamw(groups: list[dict[str, Any]], train: TrainConfig, steps: int) -> dict[str, Any]:
    """Fused AdamW; the rate grows linearly over `lr_warmup`, then falls as half a cosine to 1 %.

    The cosine is that of Loshchilov & Hutter, ICLR 2017, eq. 5. Weights decay only in matrices and
    convolution kernels, not in norms and biases, which have one dimension. A group may have its own
    `lr` and `weight_decay`.
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


def clip_gradients(optimizer: Any, largest: float | None) -> None:
    """By norm, over all parameters. Lightning's own way refuses fused optimisers."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(parameters, largest or math.inf)
