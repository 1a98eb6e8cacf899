"""How sherpa-ncnn's tool for scale tables searches, which is not how sherpa-ncnn itself does."""

from __future__ import annotations

import torch
from torch import Tensor

from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats.sherpa import BLANK


class ToolSearch:
    """The greedy search of generate-int8-scale-table, in several recordings at once.

    It differs from sherpa-ncnn's in two ways, which show in what the joiner's layers are given:

    - Only the blank is skipped. sherpa-ncnn emits no token 2 (``<unk>``) either.
    - All frames of a segment share one of ncnn's extractors for the joiner, which computes nothing
      twice. So what comes of a segment's first frame stands for all of them, its token above all,
      which is emitted once for each frame; only what goes into the joiner is each frame's own. A
      model with one frame a segment, such as an LSTM, is not concerned.
    """

    def __init__(self, model: Transducer, recordings: int) -> None:
        self._model = model
        context_size = model.architecture.sizes.context_size
        self._contexts = torch.full((recordings, context_size), BLANK)
        self._decoder_out = model.decoder(self._contexts)[:, 0]

    def step(self, encoder_out: Tensor, rows: Tensor) -> Tensor:
        """The decoder's outputs that the joiner meets the frames with, (n, T', decoder_dim).

        Args:
            encoder_out: (n, T', encoder_dim), a segment's frames of each of n recordings.
            rows: (n,) which recordings these are.
        """
        tokens = self._model.joiner(encoder_out[:, 0], self._decoder_out[rows]).argmax(dim=1)
        emitting = (tokens != BLANK).nonzero()[:, 0]
        new, of = tokens[emitting, None], rows[emitting]
        met = []
        for _ in range(encoder_out.size(1)):
            met.append(self._decoder_out[rows])
            if len(emitting):
                self._contexts[of] = torch.cat([self._contexts[of, 1:], new], dim=1)
                self._decoder_out[of] = self._model.decoder(self._contexts[of])[:, 0]
        return torch.stack(met, dim=1)
