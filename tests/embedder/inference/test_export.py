"""Every architecture as an ONNX file: what torch says within 1e-4, or refused in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from embedder.architectures import ARCHITECTURES
from embedder.artifact import fingerprint
from embedder.config import MemberConfig
from embedder.errors import UserError
from embedder.inference import export
from embedder.inference.checkpoint import Member
from embedder.inference.export import export_member, facts_of, shortest_samples
from embedder.models.network import Network, margin_free_logits
from embedder.models.onnx import portable

Tiny = Callable[..., MemberConfig]
SINGERS = ("zoë", "ann", "Bob")

NOT_PORTABLE = {n: a.not_exportable for n, a in ARCHITECTURES.items() if a.not_exportable}


def some_member(config: MemberConfig, head: bool = True) -> Member:
    torch.manual_seed(5)
    network = Network(config).eval().requires_grad_(False)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    rows = len(SINGERS) * config.loss.centres
    weights = torch.randn(rows, config.model.embedding_dim) if head else None
    return Member("m", config, SINGERS, "catalogue-1", network, weights, "checkpoint-1")


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def wave(batch: int, samples: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(samples)
    sound = rng.normal(0, 0.1, (batch, samples)).cumsum(axis=1)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def check(member: Member, folder: Path) -> None:
    """The file answers as torch does, for batches and lengths that its maker did not try."""
    done = export_member(member, folder)
    assert done.path == folder / "m.onnx"
    assert 0 <= done.difference <= 1e-4
    network = session(done.path)
    loss = member.config.loss
    for batch, samples in ((2, shortest_samples(member.config)), (1, 20011), (5, 16000)):
        heard = wave(batch, samples)
        embedding, *logits = network.run(None, {"wave": heard})
        with torch.no_grad():
            wanted = member.network(torch.from_numpy(heard))
        np.testing.assert_allclose(embedding, wanted.numpy(), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
        assert len(logits) == (member.head is not None)
        if member.head is not None:
            scores = margin_free_logits(wanted, member.head, loss.aam_scale, loss.centres)
            np.testing.assert_allclose(logits[0], scores.numpy(), atol=1e-4 * loss.aam_scale)


FAST = ("ecapa", "crnn", "xvector", "samplecnn", "fcn", *NOT_PORTABLE)
EVERY = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES
]


@pytest.mark.parametrize("backbone", EVERY)
def test_every_architecture_is_exported_or_refused_for_a_reason(
    backbone: str, tiny: Tiny, tmp_path: Path
) -> None:
    member = some_member(tiny(backbone=backbone, n_mels=128))
    if backbone not in NOT_PORTABLE:
        check(member, tmp_path)
        return
    with pytest.raises(UserError) as refusal:
        export_member(member, tmp_path)
    said = f"member m is {backbone}, which cannot be exported: {NOT_PORTABLE[backbone]}; leave it"
    assert str(refusal.value).startswith(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", NOT_PORTABLE)
def test_what_is_refused_really_cannot_be_exported(
    backbone: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    possible = replace(ARCHITECTURES[backbone], not_exportable="")
    monkeypatch.setitem(ARCHITECTURES, backbone, possible)
    member = some_member(tiny(backbone=backbone, n_mels=128))
    with pytest.raises((UserError, TypeError), match=r"export|does not run|__round__"):
        export_member(member, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_member_without_a_head_has_no_logits(tiny: Tiny, tmp_path: Path) -> None:
    check(some_member(tiny(loss="triplet"), head=False), tmp_path)
    about = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert about["outputs"] == {"embedding": ["batch", 16]}


def test_of_several_centres_the_nearest_counts(tiny: Tiny, tmp_path: Path) -> None:
    check(some_member(tiny(loss="subcenter")), tmp_path)


def test_a_separator_is_exported_with_the_network_behind_it(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        stem="separated",
        separator_n_fft=256,
        separator_hop=128,
        separator_hidden=8,
        separator_layers=1,
    )
    check(some_member(config), tmp_path)


def test_the_file_says_what_it_is(tiny: Tiny, tmp_path: Path) -> None:
    member = some_member(tiny(stem="vocals", eval_segment_s=2.0, eval_hop_s=1.0))
    done = export_member(member, tmp_path / "new" / "folder")
    facts = {
        "format": "1",
        "member": "m",
        "checkpoint": "checkpoint-1",
        "labels": fingerprint(*SINGERS),
        "sample_rate": "16000",
        "hears": "vocals",
        "shortest_samples": "8000",
        "segment_s": "2.0",
        "hop_s": "1.0",
    }
    network = session(done.path)
    assert network.get_modelmeta().custom_metadata_map == facts == facts_of(member)
    (heard,), outputs = network.get_inputs(), network.get_outputs()
    assert (heard.name, heard.type, heard.shape) == ("wave", "tensor(float)", ["batch", "samples"])
    assert [(o.name, o.shape[0]) for o in outputs] == [("embedding", "batch"), ("logits", "batch")]
    about = json.loads(done.path.with_suffix(".json").read_text(encoding="utf-8"))
    assert about.pop("largest_difference_to_torch") == float(f"{done.difference:.1e}")
    assert about == {
        **facts,
        "input": {"wave": ["batch", "samples"]},
        "outputs": {"embedding": ["batch", 16], "logits": ["batch", 3]},
        "singers": list(SINGERS),
    }


def test_the_shortest_wave_is_what_the_architecture_pools(tiny: Tiny) -> None:
    assert shortest_samples(tiny()) == 8000
    crnn = tiny(backbone="crnn", n_mels=128, hop=1000, eval_segment_s=2.0, segment_s=2.0)
    assert shortest_samples(crnn) == 15000  # 16 frames, the first of them at 0


def test_the_same_member_gives_the_same_bytes_and_no_path(tiny: Tiny, tmp_path: Path) -> None:
    first, again = (export_member(some_member(tiny()), tmp_path / name).path for name in ("a", "b"))
    assert first.read_bytes() == again.read_bytes()
    for place in (Path(export.__file__).parents[2], tmp_path, Path(sys.prefix)):
        assert str(place).encode() not in first.read_bytes()


def test_what_does_not_say_the_same_is_not_kept(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(network: Network) -> Network:
        double = portable(network)
        double.projection[1].running_mean += 0.01
        return double

    member = some_member(tiny())
    monkeypatch.setattr(export, "portable", off)
    with pytest.raises(UserError, match=r"m is not kept: .* by up to \d\.\de-0\d .* 0.0001 is all"):
        export_member(member, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_if_the_new_one_is_not_kept(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = export_member(some_member(tiny()), tmp_path)
    before = done.path.read_bytes()
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="is not kept"):
        export_member(some_member(tiny(channels=32)), tmp_path)
    assert done.path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.onnx"]


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_its_packages_it_says_what_to_install(
    missing: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"needs {missing}; .* -r requirements-export\.txt$"):
        export_member(some_member(tiny()), tmp_path)
    assert not list(tmp_path.iterdir())
