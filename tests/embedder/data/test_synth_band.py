"""The bands and productions: whether albums differ, and alike for every singer."""

import numpy as np

from embedder.data.synth import draw_album

RATE = 16000


def test_albums_say_nothing_of_their_singer() -> None:
    """Over many albums, no setting of the production separates one singer's from another's."""
    table = np.array(
        [
            [
                (a.tempo, a.rolloff, a.decay_s, a.balance, a.snare_s, *a.mixer)
                for album in range(40)
                for a in [draw_album(0, singer, album, RATE)]
            ]
            for singer in range(6)
        ]
    )
    between = table.mean(1).std(0)
    within = table.std(1).mean(0)
    assert (within > 0.05 * np.abs(table.mean((0, 1)))).all()  # albums do differ
    assert (between < 0.35 * within).all()  # 1 / sqrt(40) = 0.16 is expected by chance


def test_the_balance_of_an_album_lies_between_0_and_8_db() -> None:
    for seed in range(30):
        balance_db = 20 * np.log10(draw_album(seed, 0, 0, RATE).balance)
        assert 0 <= balance_db <= 8
