"""The transducer's loss, where every token takes one frame, as in sherpa-ncnn's greedy search."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Stands for log 0: infinities would turn into NaN in the gradients.
IMPOSSIBLE = -1e9


def transducer_loss(logits: Tensor, targets: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
    """−log P(targets), summed over all the ways to spread them over the frames.

    At every frame the model says a token or the blank (0), and then comes the next frame. With
    α(t, u) the log probability of having said u tokens in t frames,

        α(t+1, u) = log(exp(α(t, u) + blank(t, u)) + exp(α(t, u−1) + token(t, u−1))).

    The recursion over t is solved at once for a whole u: with B(t) the sum of the blanks before
    t, α(t, u) − B(t) is a cumulative log-sum-exp. So there are only as many steps as tokens.

    Args:
        logits: (N, T, U + 1, V).
        targets: (N, U), padded with anything.
        frames, tokens: (N,) how many of T and U are real.

    Returns:
        (N,)
    """
    n, t, u1, _ = logits.shape
    log_probs = F.log_softmax(logits.float(), dim=-1)
    blanks = log_probs[..., 0].double()
    index = targets[:, None, :, None].expand(n, t, u1 - 1, 1)
    says = log_probs[:, :, :-1].gather(3, index).squeeze(3).double()

    before = F.pad(blanks.cumsum(dim=1), (0, 0, 1, 0))  # (N, T + 1, U + 1): B
    never = blanks.new_full((n, 1), IMPOSSIBLE)
    alpha = before[:, :, 0]
    ends = [alpha.gather(1, frames[:, None])]
    for u in range(1, u1):
        arrivals = alpha[:, :-1] + says[:, :, u - 1] - before[:, 1:, u]
        alpha = before[:, :, u] + torch.cat([never, arrivals.logcumsumexp(dim=1)], dim=1)
        ends.append(alpha.gather(1, frames[:, None]))
    return -torch.cat(ends, dim=1).gather(1, tokens[:, None]).squeeze(1).float()
