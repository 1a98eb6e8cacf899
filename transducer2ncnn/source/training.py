"""A training folder's checkpoints, and which of them icefall's numbers choose.

``--epoch``, ``--iter``, ``--avg`` and ``--use-averaged-model`` mean here what they mean to
icefall's own scripts. Nothing is opened: names decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from transducer2ncnn.base.errors import UserError


@dataclass(frozen=True)
class Choice:
    """What to export out of a training folder; one of ``epoch`` and ``iter`` is None.

    Attributes:
        epoch: of ``epoch-N.pt``.
        iter: batches trained on; ``checkpoint-K.pt`` up to there count.
        avg: number of checkpoints, or with ``use_averaged_model`` of intervals between them.
        use_averaged_model: whether the running averages kept while training are averaged, not
            the models themselves.
    """

    exp_dir: Path
    epoch: int | None
    iter: int | None
    avg: int
    use_averaged_model: bool

    @property
    def averages(self) -> bool:
        """Whether anything is to be computed; if not, one file holds the model as it is."""
        return self.avg > 1 or self.use_averaged_model

    def checkpoints(self) -> list[Path]:
        """The checkpoints that are read, the oldest first.

        With ``use_averaged_model`` these are two: where the interval starts and where it ends.

        Raises:
            UserError: some are not there; with those that are.
        """
        if self.epoch is not None:
            return self._by_epoch(self.epoch)
        assert self.iter is not None
        return self._by_iter(self.iter)

    def there(self) -> str:
        """The names of the folder's checkpoints, for a message."""
        return " and ".join(_names(stem, self._numbered(stem)) for stem in ("epoch", "checkpoint"))

    def _by_epoch(self, epoch: int) -> list[Path]:
        if self.use_averaged_model:
            start = epoch - self.avg
            if start < 1:
                raise UserError(
                    f"epoch {epoch} with avg {self.avg} and use_averaged_model would start from "
                    f"epoch-{start}.pt. Expected avg below {epoch}: the interval starts avg epochs "
                    "before its end."
                )
            numbers = [start, epoch]
        else:
            numbers = list(range(max(epoch - self.avg + 1, 1), epoch + 1))
        there = self._numbered("epoch")
        if missing := [n for n in numbers if n not in there]:
            raise UserError(
                f"{self.exp_dir} has no {_names('epoch', missing)}. There: "
                f"{_names('epoch', there)}."
            )
        return [self.exp_dir / f"epoch-{n}.pt" for n in numbers]

    def _by_iter(self, iter_: int) -> list[Path]:
        there = self._numbered("checkpoint")
        up_to = [n for n in there if n <= iter_]
        needed = self.avg + 1 if self.use_averaged_model else self.avg
        if len(up_to) < needed:
            why = " (avg + 1, for use_averaged_model)" if self.use_averaged_model else ""
            raise UserError(
                f"{self.exp_dir} has {len(up_to)} of the {needed} checkpoints{why} up to "
                f"checkpoint-{iter_}.pt that are needed. There: {_names('checkpoint', there)}."
            )
        newest = up_to[-needed:]
        numbers = [newest[0], newest[-1]] if self.use_averaged_model else newest
        return [self.exp_dir / f"checkpoint-{n}.pt" for n in numbers]

    def _numbered(self, stem: str) -> list[int]:
        pattern = re.compile(rf"{stem}-([1-9]\d*)\.pt")
        # A link whose target is gone is there, so that it can be named for what it is.
        there = (f for f in self.exp_dir.iterdir() if f.is_file() or f.is_symlink())
        found = (pattern.fullmatch(f.name) for f in there)
        return sorted(int(m[1]) for m in found if m)


def _names(stem: str, numbers: list[int], limit: int = 8) -> str:
    names = [f"{stem}-{n}.pt" for n in numbers]
    if len(names) > limit:
        names = [*names[: limit // 2], f"… ({len(names) - limit} more)", *names[-limit // 2 :]]
    return ", ".join(names) or f"no {stem}-N.pt at all"
