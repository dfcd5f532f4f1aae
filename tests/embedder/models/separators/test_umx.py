"""Open-Unmix on random weights of its architecture, against the package's own separator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openunmix
import pytest
import soxr
import torch
from openunmix.model import OpenUnmix, Separator

from embedder.errors import UserError
from embedder.models.separators import umx
from embedder.models.separators.song_separator import separate
from embedder.models.separators.umx import PUBLISHED, TARGETS, build, estimate, load_umx

CPU = torch.device("cpu")
BINS = 257  # of a transform of 512 samples, where the published ones have 4096


def some_network(seed: int, channels: int = 1, bins: int = BINS) -> OpenUnmix:
    torch.manual_seed(seed)
    network = OpenUnmix(nb_bins=bins, nb_channels=channels, hidden_size=16, max_bin=bins - 30)
    for norm in (network.bn1, network.bn2, network.bn3):  # as if it had been trained
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture
def networks() -> dict[str, OpenUnmix]:
    return {target: some_network(seed) for seed, target in enumerate(TARGETS)}


@pytest.fixture
def folder(networks: dict[str, OpenUnmix], tmp_path: Path) -> Path:
    """A file for each target, with what the published files hold beside the network's tensors."""
    for target, network in networks.items():
        state = network.state_dict() | {"stft.window": torch.ones(512)}
        torch.save(state, tmp_path / f"{target}-0123abcd.pth")
    return tmp_path


def wave_at(rate: int) -> torch.Tensor:
    wave = np.random.default_rng(0).normal(0, 0.3, 16000 * 4).astype(np.float32)
    wave[16000:32000] *= 0.01
    return torch.from_numpy(soxr.resample(wave, 16000, rate).astype(np.float32))


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:1], TARGETS[:3]])
def test_vocals_are_those_of_the_packages_own_separator(
    targets: tuple[str, ...], networks: dict[str, OpenUnmix], folder: Path
) -> None:
    """Four seconds are four windows of the Wiener filter and a rest, at a hop of 128 samples."""
    for target in set(TARGETS) - set(targets):
        next(folder.glob(f"{target}*.pth")).unlink()
    theirs = Separator(
        {target: networks[target] for target in targets},
        niter=1,
        residual=len(targets) < 4,
        n_fft=512,
        n_hop=128,
        nb_channels=1,
        wiener_win_len=300,
    )
    wave = wave_at(44100)
    with torch.inference_mode():
        # The package's loaders hop by a quarter of the window.
        expected = theirs(wave[None, None])[0, 0, 0]
        vocals, backing = load_umx(folder, CPU).split(wave)
    assert backing is None
    torch.testing.assert_close(vocals, expected, atol=1e-6, rtol=1e-5)
    assert vocals.std() > 0.01
    assert (wave - vocals).std() > 0.01


def test_a_song_is_split_at_the_published_rate_and_comes_back(folder: Path) -> None:
    separator = load_umx(folder / "vocals-0123abcd.pth", CPU)
    wave = np.random.default_rng(1).normal(0, 0.3, 20000).astype(np.float32)
    vocals, _ = separate(separator, wave)
    heard = torch.from_numpy(soxr.resample(wave, 16000, 44100).astype(np.float32))
    with torch.inference_mode():
        expected = soxr.resample(separator.split(heard)[0].numpy(), 44100, 16000)
    np.testing.assert_allclose(vocals, expected, atol=1e-6)


def test_both_channels_of_a_stereo_network_hear_the_song_and_are_averaged() -> None:
    network = some_network(5, channels=2)
    magnitude = torch.rand(1, 1, BINS, 20)
    with torch.inference_mode():
        both = network(torch.cat([magnitude, magnitude], dim=1))
        found = estimate(network, magnitude)
    torch.testing.assert_close(found, (both[:, 0] + both[:, 1]) / 2)
    assert not torch.allclose(both[:, 0], both[:, 1], atol=1e-3)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_published_networks_are_rebuilt_from_their_tensors_shapes(name: str) -> None:
    with torch.device("meta"):
        spec = getattr(openunmix, f"{name}_spec")(["vocals"], device="meta", pretrained=False)
        published = spec["vocals"]
        rebuilt = build(published.state_dict(), Path("x.pth"))
    assert repr(rebuilt) == repr(published)
    assert (rebuilt.nb_bins, rebuilt.nb_output_bins) == (1487, 2049)
    assert not rebuilt.training


def test_published_files_are_those_that_the_package_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, **_: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        return {}

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", answer)
    monkeypatch.setattr("openunmix.model.OpenUnmix", lambda **_: torch.nn.Identity())
    for name, files in PUBLISHED.items():
        asked.clear()
        getattr(openunmix, f"{name}_spec")(list(files))
        assert asked == [file.url for file in files.values()]
        assert all(file.url.endswith(f"-{file.sha256}.pth") for file in files.values())
        assert tuple(files) == TARGETS


def test_cached_weights_are_taken_and_missing_ones_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    fetched: list[str] = []

    def answer(_: str, path: str, sha256: str) -> None:
        fetched.append(sha256)
        target = Path(path).name.partition("-")[0]
        Path(path).write_bytes((folder / f"{target}-0123abcd.pth").read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", answer)
    for target in TARGETS[::-1]:  # umxhq, one after the other
        path = PUBLISHED["umxhq"][target].path
        path.write_bytes((folder / f"{target}-0123abcd.pth").read_bytes())
        if target == "bass":
            assert len(load_umx(None, CPU).weights) == 4  # all of umxl, the default
            assert fetched == [PUBLISHED["umxl"][name].sha256 for name in TARGETS]
            for file in PUBLISHED["umxl"].values():
                file.path.unlink()
    every = tuple(file.path for file in PUBLISHED["umxhq"].values())
    assert load_umx(None, CPU).weights == every
    every[2].unlink()
    assert load_umx(None, CPU).weights == every[:1]
    assert len(fetched) == 4


def test_weights_that_do_not_serve_are_refused(folder: Path, tmp_path: Path) -> None:
    def refusal(weights: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_umx(weights, CPU)
        return str(caught.value)

    copy = folder / "bass-again.pth"
    copy.write_bytes(b"")
    assert f"{folder}/bass-0123abcd.pth and bass-again.pth are both there" in refusal(folder)
    copy.unlink()
    torch.save(some_network(0, bins=129).state_dict(), folder / "drums-0123abcd.pth")
    assert "have spectrograms of different sizes" in refusal(folder)
    (tmp_path / "empty").mkdir()
    assert f"--weights {tmp_path / 'empty'} holds no vocals….pth" in refusal(tmp_path / "empty")
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1)}, path)
    assert "x.pth holds no weights of Open-Unmix ('fc1.weight' is missing)" in refusal(path)
    state = some_network(0).state_dict()
    torch.save({name: value for name, value in state.items() if name != "bn2.bias"}, path)
    assert "holds no weights of Open-Unmix ('bn2.bias' is missing)" in refusal(path)
    torch.save(state | {"fc2.weight": torch.ones(3, 3)}, path)
    assert "x.pth does not fit Open-Unmix (Error(s) in loading" in refusal(path)
    assert umx.ITERATIONS == 1
