"""What several tests share: golden data, and small models exported from it."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from transducer2ncnn import families
from transducer2ncnn.base import layout
from transducer2ncnn.export import convert, halve, torchscript
from transducer2ncnn.families import model, registry
from transducer2ncnn.families.contract import Settings
from transducer2ncnn.families.lstm import LstmArchitecture, LstmSizes
from transducer2ncnn.families.lstm.graph import build
from transducer2ncnn.families.modules import Transducer
from transducer2ncnn.formats import param, weights
from transducer2ncnn.quantization import apply
from transducer2ncnn.quantization.recipes import Recipe
from transducer2ncnn.speech.features import fbank
from transducer2ncnn.verification import reference
from transducer2ncnn.workflow.config import Verification

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
#: Golden folders, with and without an LSTM projection.
GOLDEN_MODELS = ("checkpoint-projection", "checkpoint-no-projection")


#: Families that lie in the tests, found from here on as all others are.
TEST_FAMILIES = ROOT / "tests" / "families"
families.__path__.append(str(TEST_FAMILIES))


def lstm_architecture(**sizes: int) -> LstmArchitecture:
    """Of a small model, but for what is given."""
    small = {
        "feature_dim": 80,
        "encoder_dim": 12,
        "decoder_dim": 8,
        "joiner_dim": 10,
        "vocab_size": 15,
        "context_size": 2,
        "num_encoder_layers": 2,
        "rnn_hidden_size": 16,
        "dim_feedforward": 20,
    }
    return LstmArchitecture(LstmSizes(**small | sizes), Settings())


def random_lstm(**sizes: int) -> Transducer:
    """A small model with random weights."""
    torch.manual_seed(0)
    return build(lstm_architecture(**sizes)).eval().requires_grad_(False)


def random_toy(**sizes: int) -> Transducer:
    """The tests' own family (families/toy), small and with random weights."""
    family = registry.find("toy")
    small = {
        "feature_dim": 80,
        "encoder_dim": 16,
        "decoder_dim": 8,
        "joiner_dim": 10,
        "vocab_size": 15,
        "context_size": 2,
        "num_layers": 2,
        "attention_dim": 12,
        "kernel": 5,
    }
    settings = family.settings(chunk_length=16, left_chunks=2)
    torch.manual_seed(0)
    architecture = family.architecture(family.sizes(**small | sizes), settings)
    return model.untrained(family, architecture).eval().requires_grad_(False)


def last_of_speech_is_seen(
    outputs_of: Callable[[np.ndarray], Iterable[np.ndarray]], tail_seconds: float
) -> bool:
    """Whether the frame of output that stands for the last of speech is there, and sees it.

    Args:
        outputs_of: from features, (T, 80), to the encoder's frames, segment by segment.
        tail_seconds: silence behind two seconds of speech.
    """
    samples = 0.1 * np.random.default_rng(0).standard_normal(16000 * 2).astype(np.float32)
    silence = np.zeros(int(tail_seconds * 16000), dtype=np.float32)
    features = fbank(np.concatenate([samples, silence]), 80)[:-1]  # none but sherpa-ncnn's
    outputs = []
    for change in (0, 1):
        features[199] += change
        outputs.append(np.concatenate(list(outputs_of(features))))
    return bool((outputs[0][199 // 4] != outputs[1][199 // 4]).any())


#: Files whose tests run the workflow, longest first: begun last, one would leave a core waiting.
WORKFLOW = (
    "test_slurm.py",
    "test_workflow.py",
    "test_storage.py",
    "test_sources.py",
    "test_new_family.py",
    "test_streaming_families.py",
    "test_evaluation.py",
    "test_faults.py",
    "test_many_models.py",
)
#: Files whose tests run pnnx, ncnn, sherpa-ncnn, an emulator or a browser, or PyTorch for long.
NATIVE = (
    "test_agreement.py",
    "test_calibration.py",
    "test_checkpoint.py",
    "test_conv_emformer.py",
    "test_demo.py",
    "test_digits.py",
    "test_export.py",
    "test_families.py",
    "test_foreign.py",
    "test_fuzz.py",
    "test_headroom.py",
    "test_hostile_checkpoint.py",
    "test_hostile_files.py",
    "test_hostile_hub.py",
    "test_hub.py",
    "test_int8_gate.py",
    "test_isolated.py",
    "test_layer_names.py",
    "test_layers.py",
    "test_layerwise.py",
    "test_norms.py",
    "test_proof.py",
    "test_provenance.py",
    "test_publishing.py",
    "test_quantize.py",
    "test_recipes.py",
    "test_release.py",
    "test_report.py",
    "test_resources.py",
    "test_rewrite.py",
    "test_search.py",
    "test_sherpa.py",
    "test_targets.py",
    "test_training.py",
    "test_verification.py",
    "test_zipformer.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: i for i, name in enumerate(WORKFLOW)}
    items.sort(key=lambda item: order.get(item.path.name, len(WORKFLOW)))
    for item in items:
        if item.path.name in WORKFLOW:
            item.add_marker(pytest.mark.workflow)
        elif item.path.name in NATIVE:
            item.add_marker(pytest.mark.native)


@dataclass
class Export:
    """One golden model, exported to a folder with fp32/ and fp16/ in it."""

    name: str
    network: Transducer
    folder: Path
    reference: Path

    @property
    def architecture(self) -> LstmArchitecture:
        return self.network.architecture

    @property
    def sizes(self) -> LstmSizes:
        return self.architecture.sizes

    def files(self, precision: str) -> dict[str, tuple[Path, Path]]:
        return layout.ncnn_files(self.folder / precision)

    def expected(self) -> dict[str, np.ndarray]:
        return dict(np.load(GOLDEN / self.name / "expected-pretrained.npz"))


def export(network: Transducer, folder: Path) -> None:
    """Trace and convert a model as the rules do."""
    for part in layout.PARTS:
        traced = folder / f"{part}.pt"
        torchscript.trace(network, part, traced)
        fp32, fp16 = (layout.ncnn_files(folder / name)[part] for name in ("fp32", "fp16"))
        convert.convert(traced, *fp32)
        halve.halve(fp32, *fp16)


def stored(fp32: layout.Files, recipe: Recipe, folder: Path) -> layout.Files:
    """A model by a recipe that needs no calibration; what is quantized goes to ``folder``."""
    files = fp32 | {part: layout.ncnn_files(folder)[part] for part in recipe.quantized_parts}
    for part, how in recipe.quantized_parts.items():
        graph = param.read(fp32[part][0])
        blocks = weights.read(graph, fp32[part][1])
        formats = how.assign((layer.name, layer.type) for layer in graph.layers)
        quantized, made = apply.apply(graph, blocks, formats, how.rest)
        param.write(files[part][0], quantized)
        weights.write(files[part][1], made)
    return files


def check_computes(network: Transducer, expected: Mapping[str, np.ndarray]) -> None:
    """Check a model against what the recipe's own modules computed, to 1e-5."""
    golden = {k: torch.from_numpy(v) for k, v in expected.items()}
    lengths = {int(k.split("_")[1][1:]) for k in golden if k.startswith("encoder_T")}
    assert lengths
    for t in lengths:
        x, h, c = (golden[f"encoder_T{t}_{k}"] for k in ("x", "h0", "c0"))
        outputs = network.encoder(x, torch.tensor([float(t)]), h, c)
        for output, name in zip(outputs, ("encoder_out", "lengths", "h1", "c1"), strict=True):
            wanted = golden[f"encoder_T{t}_{name}"].float()
            torch.testing.assert_close(output, wanted, rtol=0, atol=1e-5)
    decoder_out = network.decoder(golden["decoder_y"].long())
    torch.testing.assert_close(decoder_out, golden["decoder_out"], rtol=0, atol=1e-5)
    logit = network.joiner(golden["joiner_encoder_out"], golden["joiner_decoder_out"])
    torch.testing.assert_close(logit, golden["joiner_logit"], rtol=0, atol=1e-5)


@pytest.fixture(scope="session", params=GOLDEN_MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp(request.param)
    network = model.load(GOLDEN / request.param / "pretrained.pt", "lstm")
    export(network, folder)
    arrays = reference.make(copy.deepcopy(network), Verification().lengths, segments=25)
    reference.save(folder / "reference.npz", arrays)
    return Export(request.param, network, folder, folder / "reference.npz")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that ships, exported to a folder with fp32/ and fp16/ in it."""
    folder = tmp_path_factory.mktemp("digits")
    export(model.load(ROOT / "models" / "digits" / "pretrained.pt", "lstm"), folder)
    return folder


@contextmanager
def mounted(folder: Path, *, megabytes: int) -> Iterator[Path]:
    """A disk that is quickly filled; without the right to mount one, the test is skipped."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk to fill cannot be mounted without the right to")
    yield folder
    subprocess.run(["umount", folder], check=True)
