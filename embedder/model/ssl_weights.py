"""Published self-supervised weights: found in torch's cache or given, and put into a network.

Enters: a file of torchaudio's state dict. Leaves: the tensors that a network's layers ask for, or a
`UserError` that says which file to put where. Nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from embedder.config import ModelConfig
from embedder.errors import UserError
from embedder.model.published import read_tensors
from embedder.model.ssl import PRETRAINED, Ssl

LAYER = re.compile(r"encoder\.transformer\.layers\.(\d+)\.")


def find_weights(model: ModelConfig, given: Path | None) -> Path:
    """The file to read: the one given, or the published one in torch's cache.

    Raises:
        UserError: no such file.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"--weights {given} is no file; it must be torchaudio's state dict")
        return given
    file = PRETRAINED[model.ssl_model].file
    if not file.path.is_file():
        raise UserError(
            f"no weights for ssl_model {model.ssl_model}: put {file.url} at {file.path}, or name a "
            "copy of it with --weights FILE"
        )
    return file.path


def read_weights(path: Path, layers: int) -> dict[str, Tensor]:
    """The tensors of a model that is cut after its first `layers` transformer layers.

    A head for another task (`aux.`) and later layers are left out; whether all others are there and
    fit, `put_weights` checks.

    Raises:
        UserError: the file is no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no readable safetensors file ({error})") from None
    else:
        tensors = read_tensors(path)
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith("aux.")
        and not ((match := LAYER.match(name)) and int(match[1]) >= layers)
    }


def put_weights(backbone: Ssl, tensors: dict[str, Tensor], path: Path) -> None:
    """Put tensors of `read_weights` into a backbone, strictly.

    Raises:
        UserError: one is missing, is too much, or is of another size.
    """
    try:
        backbone.pretrained.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())  # torch's message has several lines
        reason = reason if len(reason) < 300 else f"{reason[:300]} …"
        raise UserError(
            f"{path} does not hold the weights that ssl_model and ssl_layers ask for, in "
            f"torchaudio's form ({reason})"
        ) from None
