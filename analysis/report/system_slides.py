"""How the system works: cover, method, what is different, and how its members were trained."""

from __future__ import annotations

from functools import partial

from analysis.report import charts
from analysis.report.deck import (
    TITLE,
    Author,
    Bullets,
    Column,
    Figure,
    Slide,
    Table,
    Text,
    listed,
    plain,
    short,
)
from analysis.report.facts import Facts, MemberFacts
from analysis.report.numbers import Numbers
from analysis.report.sentences import calibration_sentence, result_sentence
from analysis.run_data import RunData
from embedder.text import counted
from ensemble.fusion.experts import kind_of, member_of
from ensemble.fusion.fitted import Fusion

POOLS = {
    "log_linear": "log-linear pool", "best_single": "best single expert", "vote": "majority vote",
    "mean": "mean of probabilities", "stack": "stacked regression",
}  # fmt: skip
EXPERTS = {
    "head": ("head", "its classification head"),
    "knn_song": ("nearest songs", "the nearest training songs"),
    "knn_segment": ("nearest segments", "the nearest training segments"),
    "probe": ("linear probe", "a linear probe of its embeddings"),
}
INPUTS = {
    "mix": ("mixture", "mixtures"),
    "vocals": ("vocal stem", "vocal stems"),
    "both": ("mixture or vocals", "mixtures and vocal stems"),
    "separated": ("separated vocals", "vocals separated from mixtures"),
}
DRAWN_MEMBERS = 4  # of more, the first ones are drawn or listed


def cover(data: RunData, numbers: Numbers, author: Author) -> Slide:
    """Title, and whose work it is."""
    songs = data.songs
    lines = [plain(author.name), f"Student ID {plain(author.student_id)}" * bool(author.student_id)]
    blocks = tuple(
        Text(line, 18.0 if place else 24.0, bold=not place)
        for place, line in enumerate(line for line in lines if line)
    )
    message = (
        "Singer identification with an ensemble of embeddings: "
        f"{counted(len(songs.ids), 'song')} by {counted(len(songs.singers), 'singer')}, "
        f"{counted(len(data.members), 'member')}. "
        f"{result_sentence(numbers.lead, data.seed)}"
    )
    return Slide(TITLE, message, (Column(blocks),), cover=True)


def method_slide(data: RunData, facts: Facts) -> Slide:
    """The method as a chain of boxes: all in it is the run's own."""
    fusion, shown = data.fusion, facts.members[:DRAWN_MEMBERS]
    grids = [_grid(one, fusion) for one in shown if one.config]
    song = ["A song", "16 kHz, mono"]
    song += ["in segments of", grids[0]] if len(set(grids)) == 1 else []
    song += ["weighted by", "voice activity"] if fusion and fusion.listening.detector else []
    columns = [
        ("song", [song]),
        ("embeddings", [_member_lines(one, fusion, len(set(grids)) > 1) for one in shown]),
    ]
    if fusion:
        weights = fusion.weights
        experts = [
            [f"{EXPERTS.get(kind_of(name), (name,))[0]}  {weights[name]:.2f}"
             for name in fusion.experts if member_of(name) == one.name] or ["none"]
            for one in shown
        ]  # fmt: skip
        pool = [POOLS.get(fusion.method, fusion.method), "calibrated answers",
                "segments to songs", f"by {fusion.aggregate}"]  # fmt: skip
        columns += [("experts, with weights", experts), ("fusion", [pool])]
    singers = len(data.songs.singers)
    columns.append(("answer", [[f"first {min(3, singers)} of", counted(singers, "singer")]]))
    count = len(facts.members)
    message = (
        f"A song is cut into segments; {counted(count, 'member')} "
        f"{'turns' if count == 1 else 'turn'} each into an embedding."
    )
    if fusion:
        experts_ = counted(len(fusion.experts), "expert")
        message += f" {experts_} answer, and their calibrated answers are fused into one."
    if count > len(shown):
        message += f" Drawn: {len(shown)} of {count} members."
    chain = Figure(partial(charts.draw_method, columns=columns), "From a song to three singers")
    return Slide("Method", message, (Column((chain,)),))


def _grid(member: MemberFacts, fusion: Fusion | None) -> str:
    assert member.config is not None
    grid = fusion.listening.grid(member.config) if fusion else member.config.embed
    return f"{grid.eval_segment_s:g} s every {grid.eval_hop_s:g} s"


def _member_lines(member: MemberFacts, fusion: Fusion | None, with_grid: bool) -> list[str]:
    lines = [short(member.name, 24)]
    if member.config:
        model = member.config.model
        lines.append(f"of the {INPUTS[member.config.train.stem][0]}")
        lines.append(f"{model.backbone}, {member.config.loss.loss} loss")
        lines += [f"{member.parameters / 1e6:.2g} M parameters"] if member.parameters else []
        lines.append(f"{model.embedding_dim} dimensions")
        lines += [_grid(member, fusion)] if with_grid else []
    return lines


def novelty_slide(data: RunData, facts: Facts) -> list[Slide]:
    """What the system does differently."""
    found = novelties(facts, data.fusion)
    if not found:
        return []
    note = "Measured on validation songs, cross-fitted by album."
    return [Slide("What is different here", "", (Column((Bullets(tuple(found)),)),), note)]


def novelties(facts: Facts, fusion: Fusion | None) -> list[str]:
    """What is true of this run, with an effect where the run holds its number."""
    found = []
    known = [(one.name, one.config, one.remixed) for one in facts.members if one.config]
    inputs = {name: INPUTS[config.train.stem][1] for name, config, _ in known}
    if len(set(inputs.values())) > 1:
        each = "; ".join(f"{name} takes {what}" for name, what in inputs.items())
        found.append(f"Members have different inputs: {each}.")
    remixed = {name: c.augment.remix for name, c, done in known if done and c.augment.remix}
    if remixed:
        low, high = min(remixed.values()), max(remixed.values())
        share = f"{low:.0%}" + (f" to {high:.0%}" if high > low else "")
        found.append(
            f"In training of {listed(list(remixed))}, {share} of the mixtures are a singer's "
            "vocals over the backing of another song, so that a band or an album cannot stand in "
            "for a voice."
        )
    overlaid = [
        name for name, config, done in known
        if done is False and config.train.recording == "mix" and config.augment.overlay
    ]  # fmt: skip
    if overlaid:
        found.append(
            f"In training of {listed(overlaid)}, parts of other songs where a band plays alone "
            "are laid over songs without stems, so that their own band says less."
        )
    if facts.separator:
        gain = facts.separator
        found.append(
            "The vocals are separated by a network of the run itself. On "
            f"{counted(gain.songs, 'validation song')} mixed at 0 dB it adds "
            f"{gain.estimate.value:.1f} dB of SI-SDR (95% interval {gain.estimate.low:.1f} to "
            f"{gain.estimate.high:.1f})."
        )
    return [one.rstrip() for one in [*found, *_fusion_novelties(facts, fusion)]]


def _fusion_novelties(facts: Facts, fusion: Fusion | None) -> list[str]:
    if fusion is None:
        return []
    found = []
    kinds = list(dict.fromkeys(kind_of(name) for name in fusion.experts))
    if len(kinds) > 1:
        asked = listed([EXPERTS[kind][1] if kind in EXPERTS else kind for kind in kinds])
        found.append(f"Each member answers in up to {len(kinds)} ways: {asked}.")
    found.append(
        "Each expert has a temperature of its own, fitted on other albums than those that it is "
        f"measured on. {calibration_sentence(fusion.report.calibration)}"
    )
    if fusion.listening.detector:
        detector = facts.detector
        right = (
            f" It is right about {detector.estimate.value:.1%} of the frames of "
            f"{counted(detector.songs, 'validation song')} (95% interval "
            f"{detector.estimate.low:.1%} to {detector.estimate.high:.1%})."
            if detector
            else ""
        )
        found.append(
            "A voice detector of the run itself decides how much each segment of a song counts."
            f"{right}"
        )
    if fusion.unknown:
        area = fusion.unknown.auroc[fusion.unknown.measure]
        songs = counted(fusion.unknown.songs, "song")
        found.append(
            "It can say that a song is by none of its singers. Leaving each singer out in turn, it "
            f"parts {songs} of known singers from as many of unknown ones with an AUROC of "
            f"{area.value:.3f} (95% interval {area.low:.3f} to {area.high:.3f})."
        )
    return found


def training_slide(facts: Facts) -> list[Slide]:
    """How each member was trained."""
    known = [one for one in facts.members if one.config]
    shown = known[:DRAWN_MEMBERS]
    if not shown:
        return []
    columns = [_training(one) for one in shown]
    rows = tuple(
        (name, *(column[name] for column in columns)) for name in columns[0]
    )  # fmt: skip
    message = f"{len(shown)} of {len(known)} members." if len(known) > len(shown) else ""
    table = Table(("setting", *(short(one.name, 24) for one in shown)), rows, size=15.0)
    return [Slide("Training set-up", message, (Column((table,)),))]


def _training(member: MemberFacts) -> dict[str, str]:
    assert member.config is not None
    config = member.config
    train, augment, mels = config.train, config.augment, config.features
    remix = f"{augment.remix:.0%} of crops" if member.remixed and augment.remix else "none"
    effects = {
        "equaliser": augment.equaliser, "noise": augment.noise, "low-pass": augment.low_pass,
    }  # fmt: skip
    used = [f"{name} {share:.0%}" for name, share in effects.items() if share]
    optimiser = f"AdamW, rate {train.lr:g}, decay {train.weight_decay:g}"
    if config.model.backbone == "ivector":
        optimiser = "expectation-maximisation"
    return {
        "network": f"{config.model.backbone}, {config.model.embedding_dim} dimensions",
        "parameters": f"{member.parameters:,}" if member.parameters else "–",
        "input": f"{INPUTS[train.stem][1]}, {mels.n_mels} log-mel bands",
        "loss": config.loss.loss,
        "crops": f"{train.segment_s:g} s, {train.crops_per_song:g} a song in each epoch",
        "batch": f"{train.batch_singers} singers × {train.batch_crops} crops",
        "epochs": f"at most {train.epochs}, patience {train.patience}",
        "optimiser": optimiser,
        "vocals over other backings": remix,
        "augmentation": ", ".join(used) or "none",
        "masks": f"{augment.time_masks} in time, {augment.band_masks} of mel bands",
        "seed": str(train.seed),
    }


def curves_slide(numbers: Numbers) -> list[Slide]:
    """Loss and validation score by epoch."""
    if not numbers.logs:
        return []
    logs = numbers.logs[:6]
    message = "Large dots: the epoch whose weights are kept, chosen by the validation score."
    if len(numbers.logs) > len(logs):
        message += f" Drawn: {len(logs)} of {len(numbers.logs)} members."
    drawing = Figure(
        partial(charts.draw_training, logs=logs), "Training loss and validation by epoch"
    )
    return [Slide("Training and validation curves", message, (Column((drawing,)),))]
