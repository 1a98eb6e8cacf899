"""How loud recordings are: what int8 is calibrated on must be like what the model is used on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from transducer2ncnn.base.errors import some
from transducer2ncnn.quantization.sharing import Measured

#: Below this level, in dB of full scale, a recording is silent: speech in 16 bits is not there.
SILENT = -80.0
#: Levels as far apart, in dB, that int8 loses by it.
FAR = 10.0
#: Recordings that a warning names.
NAMED = 3


def decibels(mean_square: float) -> float:
    """The level of samples in [−1, 1], in dB of full scale; −inf where all are zero."""
    return 10 * math.log10(mean_square) if mean_square > 0 else -math.inf


def overall(recordings: Iterable[Measured]) -> float:
    """The level of all recordings together."""
    recordings = list(recordings)
    seconds = sum(x.seconds for x in recordings)
    power = sum(x.seconds * 10 ** (x.level / 10) for x in recordings)
    return decibels(power / seconds) if seconds else -math.inf


def silent(calibration: Mapping[str, Measured]) -> Iterator[str]:
    """A warning of calibration recordings that are silent, if some are."""
    names = [wav for wav, x in calibration.items() if x.level < SILENT]
    if names:
        first = some([f"{wav} ({shown(calibration[wav].level)})" for wav in names], NAMED)
        yield (
            f"{len(names)} of {len(calibration)} calibration recordings are silent: {first}. "
            "They say nothing of speech, and move the scales: leave them out."
        )


def far(calibration: Mapping[str, Measured], heard: Iterable[np.ndarray]) -> Iterator[str]:
    """A warning of calibration audio that is far quieter or louder than other audio.

    Args:
        heard: the test recordings, (n,) samples each.
    """
    samples = np.concatenate([np.zeros(0, np.float32), *heard]).astype(np.float64)
    mine = overall(calibration.values())
    theirs = decibels(float(np.mean(samples**2)) if len(samples) else 0.0)
    if mine == theirs or abs(mine - theirs) < FAR:
        return
    how = "quieter" if mine < theirs else "louder"
    by = "" if math.isinf(mine - theirs) else f" by {abs(mine - theirs):.0f} dB"
    yield (
        f"the calibration audio is far {how} than the test audio{by}: {shown(mine)} and "
        f"{shown(theirs)}. int8's ranges are then not those of the model's "
        "speech; calibrate on recordings like those that it is used on."
    )


def shown(level: float) -> str:
    """A level as messages state it."""
    return "digital silence" if math.isinf(level) else f"{level:.0f} dB of full scale"
