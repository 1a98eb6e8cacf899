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
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = feature_dim
    options.mel_opts.high_freq = -400
    extractor = knf.OnlineFbank(options)
    extractor.accept_waveform(SAMPLE_RATE, np.ascontiguousarray(samples, dtype=np.float32))
    extractor.input_finished()
    frames = [extractor.get_frame(i) for i in range(extractor.num_frames_ready)]
    return np.stack(frames) if frames else np.zeros((0, feature_dim), dtype=np.float32)
