"""Log-mel filterbank features, as icefall trains with and sherpa-ncnn computes."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np

SAMPLE_RATE = 16000
FEATURE_DIM = 80


def fbank(samples: np.ndarray, feature_dim: int = FEATURE_DIM) -> np.ndarray:
    """Features of a whole recording.

    Args:
        samples: (n,) float32 in [−1, 1], 16 kHz, mono.
        feature_dim: number of mel bins.

    Returns:
        (T, feature_dim) float32; a frame every 10 ms, each 25 ms wide. T is
        n / 160, rounded to the nearest.
    """
    stream = FbankStream(feature_dim)
    stream.accept(samples)
    stream.finish()
    return stream.take()


def silence(seconds: float) -> np.ndarray:
    """(n,) samples that are zero."""
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)


class FbankStream:
    """Features of a recording that comes in pieces: those of the whole, in little memory."""

    def __init__(self, feature_dim: int = FEATURE_DIM) -> None:
        options = knf.FbankOptions()
        options.frame_opts.samp_freq = SAMPLE_RATE
        options.frame_opts.dither = 0
        options.frame_opts.snip_edges = False
        options.mel_opts.num_bins = feature_dim
        options.mel_opts.high_freq = -400
        self._extractor = knf.OnlineFbank(options)
        self._feature_dim = feature_dim
        self._taken = 0

    def accept(self, samples: np.ndarray) -> None:
        """(n,) float32 samples, the next ones of the recording."""
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        self._extractor.accept_waveform(SAMPLE_RATE, samples)

    def finish(self) -> None:
        """There are no more samples; the last frames become ready."""
        self._extractor.input_finished()

    def take(self) -> np.ndarray:
        """(n, feature_dim) float32: the frames that became ready since the last call."""
        ready = self._extractor.num_frames_ready
        features = np.zeros((ready - self._taken, self._feature_dim), dtype=np.float32)
        for i in range(len(features)):
            features[i] = self._extractor.get_frame(self._taken + i)
        # Only now: the frames that it hands out are its own memory.
        self._extractor.pop(len(features))
        self._taken = ready
        return features
