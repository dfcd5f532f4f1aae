"""A recording that somebody sent becomes mono samples, in memory alone.

Enters: the bytes of an audio file as a phone or a browser makes it. Leaves: what `audio.read_audio`
gives of the same file; or a `UserError` of one sentence for who sent it.
"""

from __future__ import annotations

import io

from embedder.catalogue import audio_format
from embedder.data.audio import Audio, AudioError, read_audio, unusable
from embedder.errors import UserError

NO_AUDIO = "This is no audio that can be read; wav, mp3, flac, ogg, m4a, webm and others can be."


def decode_recording(data: bytes, max_seconds: float) -> Audio:
    """A whole file's bytes as mono int16 samples (samples,) at 16 kHz, and notes on them.

    Decoding ends as soon as there is more than `max_seconds`: a small file that unpacks to hours
    of silence takes no more memory than a recording that is allowed.

    Raises:
        UserError: it is no audio, damaged, too short, too long or silent.
    """
    if not data:
        raise UserError("The recording is empty: it has no bytes.")
    try:
        audio = read_audio(data, most_s=max_seconds)
    except AudioError as error:
        if error.kind == "long":
            raise UserError(f"The recording is longer than {_minutes(max_seconds)}.") from None
        if not audio_format(io.BytesIO(data)):
            raise UserError(NO_AUDIO) from None
        raise UserError(f"The recording is damaged: {error.reason}.") from None
    if wrong := unusable(audio.seconds, audio.peak):
        kind, reason = wrong
        kind = {"short": "too short"}.get(kind, kind)
        raise UserError(f"The recording is {kind}: {reason}.")
    return audio


def _minutes(seconds: float) -> str:
    """`15 minutes`, `90 s`."""
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} s"
