"""The runner: resumed it ends in the same bytes; precision, small numbers, memory, a quiet loop."""

from __future__ import annotations

import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from embedder.config import TrainConfig
from embedder.data.loaders import PrefetchLoader
from embedder.data.samplers import EpochItems
from embedder.errors import UserError
from embedder.models import network
from embedder.training.checkpoint_callback import CheckpointCallback, EpochResult, Schedule
from embedder.training.folder import TrainingFolder
from embedder.training.runner import adamw, build_trainer, choose_precision, fit, fitting

SMALLEST = np.float32(1e-40)  # not a normal float


def test_precision_follows_the_device_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    for able, expected in ((True, "bf16-mixed"), (False, "32-true")):
        found = {"avx512_bf16": able}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert choose_precision("auto", cpu) == expected
    assert choose_precision("bf16", cpu) == "bf16-mixed"
    assert choose_precision("auto", torch.device("mps")) == "32-true"


def halved() -> float:
    return float(torch.tensor(SMALLEST) * 0.5)


def test_numbers_too_small_for_a_normal_float_are_zero_while_fitting() -> None:
    assert halved() > 0
    with fitting():
        assert halved() == 0
    assert halved() > 0
    with pytest.raises(KeyError), fitting():
        raise KeyError
    assert halved() > 0  # after an error too


def test_only_lightning_s_warnings_are_held_back() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with fitting():
            for module in ("lightning.pytorch.loops", "embedder.training.module"):
                warnings.warn_explicit("slow", UserWarning, "a.py", 1, module=module)
    assert [str(warning.message) for warning in seen] == ["slow"]


class Noisy(lightning.LightningModule):
    """Fits a line with dropout: what it draws matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.line = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 1))

    def configure_optimizers(self) -> Any:
        return adamw([{"params": list(self.parameters())}], TrainConfig(lr=0.05), 40)

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        return (self.line(batch) - batch.sum(dim=1, keepdim=True)).square().mean()


class Points(Dataset[Tensor]):
    """An endless data set: an item depends on its number alone."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(4, generator=torch.Generator().manual_seed(index))


class Stopped(BaseException):
    pass


def train(
    folder: Path, ranks: list[float] | None = None, stop: str = "", patience: int = 0
) -> tuple[dict[str, Tensor], CheckpointCallback, list[str]]:
    """Five epochs of four batches; the final weights, the callback, and what was said."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if stop and line.startswith(stop):
            raise Stopped

    module, done = Noisy(), TrainingFolder(folder, folder / "resume")
    callback = fit(
        module,
        PrefetchLoader(Points(), batch_size=8, sampler=EpochItems(32)),
        done,
        Schedule(epochs=5, seed=1, clip_norm=0.5, epoch_s=32.0, patience=patience),
        lambda: (
            EpochResult({"rank": r}, "", (r,)) if (r := rank_of(done, ranks)) else EpochResult({})
        ),
        device=torch.device("cpu"),
        precision="32-true",
        say=say,
        weights=module.state_dict,
    )
    return dict(module.state_dict()), callback, said


def rank_of(folder: TrainingFolder, ranks: list[float] | None) -> float:
    """Of the epoch that just ended; 0 where epochs do not compete."""
    rows = folder.log.read_text().count("\n") - 1 if folder.log.is_file() else 0
    return ranks[rows] if ranks else 0


def test_a_trainer_keeps_nothing_of_its_own(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path, tmp_path)
    callback = CheckpointCallback(
        folder, Schedule(3, 0, 2.5, 1.0), lambda: EpochResult({}), lambda _: None
    )
    trainer = build_trainer(torch.device("cpu"), "32-true", callback, show_bar=False)
    assert trainer.max_epochs == 3
    assert callback in trainer.callbacks  # type: ignore[attr-defined]
    assert trainer.loggers == []
    assert trainer.checkpoint_callbacks == []
    assert trainer.progress_bar_callback is None
    shown = build_trainer(torch.device("cpu"), "32-true", callback, show_bar=True)
    assert shown.progress_bar_callback is not None


@pytest.mark.parametrize("epoch", [1, 4, 5])
def test_stopped_after_an_epoch_it_ends_in_the_same_weights(epoch: int, tmp_path: Path) -> None:
    ranks = [0.1, 0.3, 0.2, 0.5, 0.4]
    whole, undisturbed, _ = train(tmp_path / "whole", ranks)
    with pytest.raises(Stopped):
        train(tmp_path / "cut", ranks, stop=f"epoch   {epoch}/5")
    resumed, callback, said = train(tmp_path / "cut", ranks)
    assert said[0] == f"going on after epoch {epoch}"
    assert len(said) == 1 + 5 - epoch
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert [{**row, "audio_per_s": 0} for row in callback.rows] == [
        {**row, "audio_per_s": 0} for row in undisturbed.rows
    ]
    best, other = (
        load_file(tmp_path / name / "resume/best.safetensors") for name in ("whole", "cut")
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in best.items())
    assert [row["best"] for row in callback.rows] == [1, 1, 0, 1, 0]


def test_a_training_that_stopped_early_is_not_gone_on_with(tmp_path: Path) -> None:
    ranks = [0.5, 0.4, 0.3, 0.9, 0.9]
    whole, callback, _ = train(tmp_path, ranks, patience=2)
    assert (len(callback.rows), callback.best_epoch) == (3, 0)
    again, callback, said = train(tmp_path, ranks, patience=2)
    assert said == ["going on after epoch 3"]
    assert len(callback.rows) == 3
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_the_last_epoch_is_kept_where_epochs_do_not_compete(tmp_path: Path) -> None:
    _, callback, said = train(tmp_path)
    assert not callback.folder.best.is_file()
    assert callback.folder.log.read_text().splitlines()[0] == "epoch,loss,lr,audio_per_s"
    assert said[-1].startswith("epoch   5/5  loss ")


def test_ctrl_c_is_no_finished_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning.Trainer, "fit", lambda *_, **__: None)  # as after Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, stop="epoch   2/5")
    state = torch.load(tmp_path / "resume/last.ckpt", weights_only=True)
    state["callbacks"] = {"Keeper": state["callbacks"]["CheckpointCallback"]}
    torch.save(state, tmp_path / "resume/last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt was written by another version.*; remove it"):
        train(tmp_path)


PROGRAM = """
import resource, sys
import numpy as np
from embedder.models.network import reuse_freed_memory

if sys.argv[1] == "kept":
    assert reuse_freed_memory()
for _ in range(4):
    np.ones(5_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(5_000_000)  # 40 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_freed_blocks_are_taken_again_without_a_page_fault() -> None:
    assert faults("as it is") > 50  # five times 40 MB in pages of 4 kB, or of 2 MB
    assert faults("kept") < 10


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert network.reuse_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(network.ctypes, "CDLL", lambda _: object())  # a C library without mallopt
    assert network.reuse_freed_memory() is False
