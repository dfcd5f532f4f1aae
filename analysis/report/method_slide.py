"""The slide with the method in one picture.

Enters: `RunData` and the facts of its members. Leaves: a `Slide`; all in it is the run's own.
"""

from __future__ import annotations

from functools import partial

from analysis.report.facts import Facts, MemberFacts
from analysis.report.figures.method import Method, Route, draw_method
from analysis.report.lettering import plain
from analysis.report.slide import Column, Drawing, Slide
from analysis.run_data import RunData
from analysis.wording import counted
from ensemble.fusion.experts import kind_of, member_of
from ensemble.fusion.fitted import Fusion

POOLS = {
    "log_linear": "log-linear pool",
    "best_single": "best single expert",
    "vote": "majority vote",
    "mean": "mean of probabilities",
    "stack": "stacked regression",
}
ASKS = {
    "head": "head",
    "knn_song": "nearest songs",
    "knn_segment": "nearest segments",
    "probe": "linear probe",
}
DRAWN = {
    "mix": ("mixture",),
    "vocals": ("vocal stem",),
    "both": ("mixture", "or vocal stem"),
    "separated": ("vocals,", "separated from", "the mixture"),
}


def method_slide(run_data: RunData, facts: Facts) -> Slide:
    """The method in one picture."""
    method = method_of(run_data, facts)
    experts = len(run_data.fusion.experts) if run_data.fusion else 0
    message = (
        f"A song is cut into segments; {counted(len(facts.members), 'member')} "
        f"{'turns' if len(facts.members) == 1 else 'turn'} each into an embedding."
    )
    if experts:
        message += (
            f" {counted(experts, 'expert')} {'names' if experts == 1 else 'name'} singers, and "
            f"their calibrated answers become one."
        )
    drawing = Drawing(partial(draw_method, method=method), "From a song to three singers")
    return Slide("Method in one picture", message, (Column((drawing,)),))


def method_of(run_data: RunData, facts: Facts) -> Method:
    """What is drawn, from the run's own members, experts and weights."""
    fusion = run_data.fusion
    song = ["A song", "16 kHz, mono"]
    grids = {_grid(one, fusion) for one in facts.members if one.config}
    song += [*sorted(grids)] if len(grids) == 1 else []
    if fusion and fusion.listening.detector:
        song += ["weighted by", "voice activity"]
    paths = tuple(_path(one, fusion, len(grids) > 1) for one in facts.members)
    pool = ["No fusion"]
    if fusion:
        pool = [POOLS.get(fusion.pooling.method, fusion.pooling.method), "of answers with",
                "a temperature each"]  # fmt: skip
        pool += ["song from segments", f"by {fusion.aggregate}"]
    singers = len(run_data.songs.singers)
    return Method(tuple(song), paths, tuple(pool), ("Answer", f"first {min(3, singers)} of",
                  counted(singers, "singer")))  # fmt: skip


def _grid(member: MemberFacts, fusion: Fusion | None) -> str:
    assert member.config is not None
    grid = fusion.listening.grid(member.config) if fusion else member.config.embed
    return f"{grid.eval_segment_s:g} s every {grid.eval_hop_s:g} s"


def _path(member: MemberFacts, fusion: Fusion | None, with_grid: bool) -> Route:
    lines = [plain(member.name)]
    hears: tuple[str, ...] = ("songs",)
    if member.config:
        model = member.config.model
        lines.append(f"{model.backbone}, {member.config.loss.loss} loss")
        lines += [f"{member.parameters / 1e6:.2g} M parameters"] if member.parameters else []
        lines.append(f"{model.embedding_dim} numbers a segment")
        lines += [_grid(member, fusion)] if with_grid else []
        hears = DRAWN[member.config.train.stem]
    experts = tuple(
        (ASKS.get(kind_of(name), kind_of(name)), f"{fusion.weights[name]:.2f}")
        for name in (fusion.experts if fusion else ())
        if member_of(name) == member.name and fusion is not None
    )
    return Route(hears, tuple(lines), experts or (("no expert", ""),))
