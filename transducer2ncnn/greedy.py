"""Streaming greedy search on plain ncnn, with sherpa-ncnn's rules.

The encoder sees a segment at a time and carries its states; the joiner meets each of its frames
with the decoder's last output, and at most one token comes out of a frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transducer2ncnn.families import Family
from transducer2ncnn.features import SAMPLE_RATE, fbank
from transducer2ncnn.layout import PARTS, Files
from transducer2ncnn.runtime import Network
from transducer2ncnn.sherpa import BLANK, NEVER_EMITTED

#: Seconds of silence put behind a recording, so that its last word leaves the encoder.
TAIL_SILENCE = 0.5


class GreedySearch:
    """An exported model's three networks, decoding one recording at a time."""

    def __init__(self, files: Files, family: Family, sizes: Any, threads: int = 1) -> None:
        self._family, self._sizes = family, sizes
        self._encoder, self._decoder, self._joiner = (
            Network(*files[part], threads) for part in PARTS
        )
        initial = family.initial_states(sizes)
        first = family.FIRST_STATE
        self._encoder_outputs = ["out0", *(f"out{first + i}" for i in range(len(initial)))]

    def decode(self, samples: np.ndarray) -> list[int]:
        """Token ids of a recording: (n,) float32 samples in [−1, 1], 16 kHz."""
        silence = np.zeros(int(TAIL_SILENCE * SAMPLE_RATE), dtype=np.float32)
        features = fbank(np.concatenate([samples, silence]), self._sizes.feature_dim)
        segment, hop = self._family.SEGMENT, self._family.HOP
        states = self._family.initial_states(self._sizes)
        tokens = [BLANK] * self._sizes.context_size
        decoder_out = self._run_decoder(tokens)
        # Like sherpa-ncnn, which waits for a frame beyond the segment: of a recording with just
        # enough frames for a last one, it leaves that out.
        for start in range(0, len(features) - segment, hop):
            inputs = self._family.encoder_inputs(features[start : start + segment], states)
            encoder_out, *states = self._encoder.run(
                {f"in{i}": array for i, array in enumerate(inputs)}, self._encoder_outputs
            )
            for frame in encoder_out:
                (logits,) = self._joiner.run({"in0": frame, "in1": decoder_out}, ["out0"])
                token = int(logits.argmax())
                if token not in NEVER_EMITTED:
                    tokens.append(token)
                    decoder_out = self._run_decoder(tokens)
        return tokens[self._sizes.context_size :]

    def _run_decoder(self, tokens: list[int]) -> np.ndarray:
        context = np.array(tokens[-self._sizes.context_size :], dtype=np.int32)
        (out,) = self._decoder.run({"in0": context}, ["out0"])
        return out.reshape(-1)
