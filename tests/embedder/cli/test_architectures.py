"""`architectures`: a row for each backbone, each with its own numbers."""

from __future__ import annotations

from typing import Any

import pytest

import app
from embedder.architectures import ARCHITECTURES
from embedder.cli.architectures import HEAD
from embedder.config import MemberConfig
from embedder.models import network
from embedder.models.network import Size, size_of
from embedder.settings import build_config
from embedder.training import speed
from embedder.training.speed import Speed


def rows_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, list[str]]:
    """The table that `architectures` prints: backbone → its other cells."""
    assert app.main(["architectures", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    return {row[0]: row[1:] for row in cells if len(row) == len(HEAD)}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[MemberConfig]:
    """What is measured, with made-up numbers that depend on the backbone."""
    configs: list[MemberConfig] = []

    def size(config: MemberConfig) -> Size:
        configs.append(config)
        number = list(ARCHITECTURES).index(config.model.backbone)
        return Size(int(1e6 * (number + 0.5)), int(1e6 * number), 1e6 * (100 + number))

    def timed(config: MemberConfig, device: str, seconds: float) -> Speed:
        assert (device, seconds) == ("cpu", 0.5)
        number = list(ARCHITECTURES).index(config.model.backbone)
        return Speed(200 + number, 300 + number)

    monkeypatch.setattr(network, "size_of", size)
    monkeypatch.setattr(speed, "measure_speed", timed)
    return configs


def test_every_backbone_has_a_row_with_its_source_and_its_numbers(
    measured: list[MemberConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(capsys, "--seconds", "0.5", "--device", "cpu", "--preset", "base")
    assert set(rows) == set(ARCHITECTURES)
    for number, name in enumerate(ARCHITECTURES):
        source, *numbers = rows[name]
        assert source.startswith(ARCHITECTURES[name].source)
        assert source.endswith("(fitted)") == ARCHITECTURES[name].fitted
        expected = [f"{number + 0.5:.2f}", f"{number:.2f}"]
        assert numbers == [*expected, *(str(high + number) for high in (100, 200, 300))]
    for config in measured:
        assert config == build_config("base", changes={"backbone": config.model.backbone})


def test_only_what_is_asked_for_is_measured(
    measured: list[MemberConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--backbone", "xvector, ecapa,xvector", "--set", "channels=128")
    rows = rows_of(capsys, *words, "--seconds", "0.5", "--device", "cpu")
    assert list(rows) == ["xvector", "ecapa"]
    assert [config.model.channels for config in measured] == [128, 128]


def test_the_numbers_are_those_of_the_network(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[Speed] = []
    measure = speed.measure_speed

    def remembered(*arguments: Any) -> Speed:
        timed.append(measure(*arguments))
        return timed[-1]

    monkeypatch.setattr(speed, "measure_speed", remembered)
    changes: dict[str, Any] = {"backbone": "xvector", "channels": 16, "segment_s": 0.5}
    changes |= {"eval_segment_s": 0.5, "batch_singers": 2, "batch_crops": 2}
    words = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    rows = rows_of(capsys, "--backbone", "xvector", *words, "--seconds", "0.01", "--device", "cpu")
    size = size_of(build_config(changes=changes))
    _, parameters, trained, products, training, embedding = rows["xvector"]
    assert parameters == trained == f"{size.trainable / 1e6:.2f}"
    assert products == f"{size.multiply_adds / 1e6:.0f}"
    (found,) = timed
    assert found.training > 0
    assert found.embedding > 0
    assert (training, embedding) == (f"{found.training:.0f}", f"{found.embedding:.0f}")


def test_a_backbone_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["architectures", "--backbone", "ecapa,xvectr"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: backbone = 'xvectr' is not legal; it must be ecapa | crnn")
    assert len(error.splitlines()) == 1
