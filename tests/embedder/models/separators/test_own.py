"""The run's separator on disk: the same numbers again, and refusals of all that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedder.artifact import read_json, write_json
from embedder.catalogue import Catalogue, read_catalogue, write_catalogue
from embedder.config import SeparatorConfig
from embedder.errors import UserError
from embedder.models.separators.own import load_own, load_vocal_separator, save_vocal_separator
from embedder.models.separators.vocal_separator import VocalSeparator
from embedder.models.weights import save_weights
from embedder.run import Run

SMALL = SeparatorConfig(
    separator_n_fft=128, separator_hop=32, separator_hidden=8, separator_layers=1
)


@pytest.fixture
def wave() -> torch.Tensor:
    return 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def made(wave: torch.Tensor) -> VocalSeparator:
    torch.manual_seed(1)
    separator = VocalSeparator(SMALL)
    separator(wave)  # batch norm's statistics are part of what is kept
    return separator.eval().requires_grad_(False)


@pytest.fixture
def run(prepared: Run, made: VocalSeparator) -> Run:
    """A prepared run with a separator of its training songs."""
    songs = read_catalogue(prepared.catalogue).of("train")
    save_vocal_separator(prepared, made, {"songs": [song.id for song in songs]})
    return prepared


def test_what_is_read_gives_the_numbers_of_what_was_written(
    run: Run, made: VocalSeparator, wave: torch.Tensor
) -> None:
    found = load_vocal_separator(run)
    assert found.config == SMALL
    assert found(wave).equal(made(wave))
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())


def test_equal_separators_are_equal_bytes(run: Run, made: VocalSeparator) -> None:
    before = run.separator_weights.read_bytes()
    save_vocal_separator(run, made, read_json(run.separator / "config.json")["about"])
    assert run.separator_weights.read_bytes() == before


def test_a_run_without_one_names_the_command(prepared: Run) -> None:
    with pytest.raises(UserError, match=r"no separator of its own.*app\.py train-separator$"):
        load_vocal_separator(prepared)


def another_config(run: Run, _: VocalSeparator) -> None:
    path = run.separator / "config.json"
    write_json(path, read_json(path) | {"about": {"songs": []}})


def another_format(run: Run, _: VocalSeparator) -> None:
    tensors = load_file(run.separator_weights)
    save_file(tensors, run.separator_weights, {"made_from": '{"format": "7"}'})


def broken(run: Run, _: VocalSeparator) -> None:
    run.separator_weights.write_bytes(run.separator_weights.read_bytes()[:100])


def another_shape(run: Run, made: VocalSeparator) -> None:
    made.config = made.config.model_copy(update={"separator_hidden": 16})
    save_vocal_separator(run, made, {"songs": []})


def a_setting_less(run: Run, _: VocalSeparator) -> None:
    path = run.separator / "config.json"
    described = read_json(path)
    del described["config"]["separator_layers"]
    write_json(path, described)
    save_weights(run.separator_weights, "separator", load_file(run.separator_weights), [path])


REFUSED = {
    another_config: r"config\.json does not belong to model\.safetensors; train it again",
    another_format: r"of format 7, this program reads format 1; .*--overwrite",
    broken: r"is not a readable separator .*; train it again",
    another_shape: r"does not fit its own config .*size mismatch",
    a_setting_less: "lacks the settings separator_layers",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_files_that_do_not_belong_together_are_refused(
    change: Callable[[Run, VocalSeparator], None], run: Run, made: VocalSeparator
) -> None:
    change(run, made)
    with pytest.raises(UserError, match=REFUSED[change]):
        load_vocal_separator(run)


def test_songs_that_it_learnt_from_must_not_be_validation_songs_now(run: Run) -> None:
    songs = list(read_catalogue(run.catalogue).songs)
    first = next(number for number, song in enumerate(songs) if song.split == "train")
    songs[first] = replace(songs[first], split="validation")
    write_catalogue(run.catalogue, Catalogue(tuple(songs)))
    with pytest.raises(UserError, match=f"was trained on 1 song .*{songs[first].id}.*again"):
        load_vocal_separator(run)


@pytest.mark.parametrize("place", ["", "folder", "file"])
def test_for_whole_songs_it_splits_as_it_does(
    run: Run, made: VocalSeparator, wave: torch.Tensor, tmp_path: Path, place: str
) -> None:
    weights = {"": None, "folder": run.separator, "file": run.separator_weights}[place]
    own = load_own(run if not place else Run(tmp_path / "other"), weights, torch.device("cpu"))
    vocals, backing = own.split(wave[0])
    assert backing is None
    torch.testing.assert_close(vocals, made.refined(wave[:1])[0])
    assert own.rate == 16000


def test_the_fingerprint_is_that_of_the_weights(run: Run, made: VocalSeparator) -> None:
    before = load_own(run, None, torch.device("cpu")).fingerprint()
    assert load_own(run, None, torch.device("cpu")).fingerprint() == before
    with torch.no_grad():
        made.network.fc1.weight.mul_(2)
    save_vocal_separator(run, made, {"songs": []})
    assert load_own(run, None, torch.device("cpu")).fingerprint() != before
