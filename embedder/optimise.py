"""How weights follow their gradients: AdamW, and a learning rate that grows and then falls.

Enters: parameters in groups, settings, the number of steps. Leaves: what Lightning wants of
`configure_optimizers`, and gradients of a bounded norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from embedder.config import TrainConfig


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
