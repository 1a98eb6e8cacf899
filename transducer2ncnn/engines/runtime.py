"""Running converted networks on Python ncnn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import PARTS, Files
from transducer2ncnn.base.reading import REMAKE
from transducer2ncnn.families.contract import Architecture
from transducer2ncnn.formats import blobs


class Network:
    """One param/bin pair, computing in fp32 whatever its weights are stored as.

    Args:
        sherpa_options: whether to compute as in sherpa-ncnn, which leaves ncnn's options as they
            are: in fp16 where the processor can.

    Raises:
        UserError: ncnn cannot load the pair.
    """

    def __init__(
        self, param: str | Path, bin_: str | Path, threads: int = 1, sherpa_options: bool = False
    ) -> None:
        self.param, self.bin = str(param), str(bin_)
        self._net = ncnn.Net()
        # ncnn reads its options while loading, so they come first.
        opt = self._net.opt
        opt.num_threads = threads
        opt.use_vulkan_compute = False
        if not sherpa_options:
            opt.use_fp16_packed = opt.use_fp16_storage = opt.use_fp16_arithmetic = False
            opt.use_bf16_storage = False
        for path, load in ((self.param, self._net.load_param), (self.bin, self._net.load_model)):
            if not Path(path).is_file():
                raise UserError(f"{path}: no such file.")
            if load(path) != 0:
                raise UserError(
                    f"{path}: ncnn cannot load it; in the log, its reason is above this. {REMAKE}"
                )

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        """Compute the blobs named in ``outputs``, arrays in ncnn's shapes (no batch axis).

        Raises:
            UserError: ncnn refuses an input or cannot compute a blob.
        """
        extractor = self._net.create_extractor()
        # Otherwise blobs in the middle of the graph are gone once they were used. As an option
        # of the net, light mode also frees weights that were repacked: there it stays on.
        extractor.set_light_mode(False)
        # A Mat borrows its array's memory, so both live as long as the extractor.
        arrays = {name: np.ascontiguousarray(a) for name, a in inputs.items()}
        mats = {name: ncnn.Mat(a) for name, a in arrays.items()}
        for name, mat in mats.items():
            if extractor.input(name, mat) != 0:
                raise UserError(f"{self.param}: has no input blob {name!r}.")
        results = []
        for name in outputs:
            status, mat = extractor.extract(name)
            if status != 0 or mat.empty():
                raise UserError(f"{self.param}: ncnn cannot compute blob {name!r} ({status=}).")
            results.append(np.array(mat))
        return results


class NcnnTransducer:
    """An exported model's three networks, for ``search.decode``.

    Args:
        threads, sherpa_options: as of ``Network``.

    Raises:
        UserError: ncnn cannot load a part.
    """

    def __init__(
        self,
        files: Files,
        architecture: Architecture[Any, Any],
        threads: int = 1,
        sherpa_options: bool = False,
    ) -> None:
        self.architecture = architecture
        self._options = threads, sherpa_options
        self._encoder, self._decoder, self._joiner = (
            self.load(part, *files[part]) for part in PARTS
        )
        self._encoder_outputs = blobs.outputs(len(architecture.batch_axes()))

    def load(self, part: str, param: Path, bin_: Path) -> Network:
        """A part's network, which a subclass may watch."""
        return Network(param, bin_, *self._options)

    def encode(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        outputs = self._encoder.run(blobs.inputs(inputs), self._encoder_outputs)
        return outputs[0], self.architecture.carried(outputs)

    def decode(self, context: Sequence[int]) -> np.ndarray:
        (out,) = self._decoder.run(
            blobs.inputs([np.array(context, dtype=np.int32)]), [blobs.OUTPUT]
        )
        return out.reshape(-1)

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        (logits,) = self._joiner.run(blobs.inputs([frame, decoder_out]), [blobs.OUTPUT])
        # A row where the joiner makes rows of what it is given.
        return logits.reshape(-1)
