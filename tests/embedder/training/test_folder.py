"""The folder of a training: what stays of a finished one."""

from __future__ import annotations

from pathlib import Path

from embedder.training.folder import TrainingFolder


def test_only_the_settings_stay_of_what_an_unfinished_training_needs(tmp_path: Path) -> None:
    resume = tmp_path / "resume"
    resume.mkdir()
    for name in ("settings.json", "last.ckpt", "best.safetensors", ".last.ckpt.x7.ckpt"):
        (resume / name).touch()
    for name in ("log.csv", ".model.safetensors.ab.safetensors"):
        (tmp_path / name).touch()
    TrainingFolder(tmp_path, resume).clear()
    assert [p.name for p in resume.iterdir()] == ["settings.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "resume"]
