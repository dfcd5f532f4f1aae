"""What each loss is, where it comes from, and what it asks of a batch.

Settings and help read this without torch; the losses themselves, under the same keys, are in
`embedder/training/losses.py`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """One kind of loss."""

    source: str  # the paper it follows
    head: bool = False  # it has class weights, which then classify by themselves
    subcenters: bool = False  # several class weights a singer, of which the nearest counts
    positives: bool = False  # it compares crops of one singer: a batch must hold two of each
    margin: str = ""  # the setting that `--margin` means


OBJECTIVES: dict[str, Objective] = {
    "aam": Objective("Deng et al., CVPR 2019", head=True, margin="aam_margin"),
    "subcenter": Objective(
        "Deng et al., ECCV 2020", head=True, subcenters=True, margin="aam_margin"
    ),
    "cosface": Objective("Wang et al., CVPR 2018", head=True, margin="cosface_margin"),
    "softmax": Objective("Zhai & Wu, BMVC 2019", head=True),
    "triplet": Objective("Schroff et al., CVPR 2015", positives=True, margin="triplet_margin"),
    "supcon": Objective("Khosla et al., NeurIPS 2020", positives=True),
    "proxyanchor": Objective("Kim et al., CVPR 2020", head=True, margin="proxy_margin"),
}
LEGAL_LOSSES = " | ".join(OBJECTIVES) + ", or a sum such as aam+triplet"
