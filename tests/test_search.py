"""A recipe found under a budget: the front by hand, what is refused, and a real model's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, stored

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.base.layout import Files, ncnn_files
from transducer2ncnn.base.shards import spread
from transducer2ncnn.evaluation import automatic, curve, scoring
from transducer2ncnn.evaluation.automatic import Budget, Task
from transducer2ncnn.families import model
from transducer2ncnn.formats import param as param_file
from transducer2ncnn.formats import tokens
from transducer2ncnn.quantization import agreement, groups, layer_formats, sensitivity, timing
from transducer2ncnn.quantization.front import Option, Point, cheapest, front
from transducer2ncnn.quantization.gate import Limits
from transducer2ncnn.quantization.groups import Group
from transducer2ncnn.quantization.quantize import scales_of
from transducer2ncnn.quantization.recipes import Part, Recipe
from transducer2ncnn.speech import audio
from transducer2ncnn.workflow.precisions import Quantized

MODEL = ROOT / "models" / "digits"
LIMITS = Limits(min_agreement=0.5, max_token_edits=1.0, min_input_snr=0.0, require_speech=True)


def test_a_front_by_hand() -> None:
    a = [Option("fp16", 100, 0.0), Option("grouped", 60, 1.0), Option("dynamic", 50, 9.0)]
    # Of b, what is in the middle is above the line from one end to the other: never best.
    b = [Option("fp16", 40, 0.0), Option("middle", 30, 5.0), Option("int8", 20, 6.0)]
    c = [Option("fp16", 10, 0.0), Option("slower", 12, 1.0)]
    # Gains: a's first step 8/10, its second 1/40; b's 6/20.
    assert front([a, b, c]) == [
        Point(("dynamic", "int8", "fp16"), 80, 15.0),
        Point(("grouped", "int8", "fp16"), 90, 7.0),
        Point(("grouped", "fp16", "fp16"), 110, 1.0),
        Point(("fp16", "fp16", "fp16"), 150, 0.0),
    ]


def test_nothing_is_cheaper_and_loses_less_than_a_point_of_the_front() -> None:
    rng = np.random.default_rng(0)
    options = [
        [Option(str(i), float(rng.integers(1, 50)), float(rng.random())) for i in range(3)]
        for _ in range(5)
    ]
    all_ = [
        (sum(x.cost for x in some), sum(x.error for x in some))
        for some in itertools.product(*options)
    ]
    points = front(options)
    assert len(points) > 4
    assert points[0].cost == min(cost for cost, _ in all_)
    assert points[-1].error == pytest.approx(min(error for _, error in all_))
    for point in points:
        better = [x for x in all_ if x[0] <= point.cost and x[1] < point.error - 1e-9]
        assert not better


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_the_first_that_passes_is_found_in_few_tries(count: int) -> None:
    for first in range(count + 1):
        tried: list[int] = []

        def passes(i: int, first: int = first, tried: list[int] = tried) -> bool:
            tried.append(i)
            return i >= first

        assert cheapest(count, passes) == (first if first < count else None)
        assert len(tried) == len(set(tried)) <= 2 * count.bit_length() + 1


def _group(part: str, name: str, size: int, formats: Sequence[str] = ("int8-dynamic",)) -> Group:
    return Group(part, (name,), {"fp16": size} | dict.fromkeys(formats, size // 2))


def test_neighbours_are_put_together_the_smallest_first() -> None:
    found = groups.merged(
        [
            _group("encoder", "large", 900),
            _group("encoder", "a", 20),
            _group("encoder", "lstm", 2, ["int8"]),  # of another kind
            _group("encoder", "b", 30),
            _group("encoder", "c", 10),
            _group("encoder", "d", 60),
            _group("joiner", "e", 4),
        ],
        5,
    )
    layers = [group.layers for group in found]
    assert layers == [("large",), ("a",), ("lstm",), ("b", "c", "d"), ("e",)]
    assert found[3].sizes == {"fp16": 100, "int8-dynamic": 50}
    # What cannot be put together stays.
    assert [len(x.layers) for x in groups.merged(found, 1)] == [2, 1, 3, 1]


def test_selectors_state_every_layer() -> None:
    layers = [("a", "InnerProduct"), ("b", "InnerProduct"), ("r", "ReLU"), ("c", "InnerProduct")]
    layers += [("k", "Convolution"), ("l", "LSTM")]
    formats = {"a": "int8-grouped", "b": "int8-dynamic", "c": "int8-dynamic"}
    stated = groups.selectors(layers, formats)
    assert stated == {"InnerProduct": "int8-dynamic", "LSTM": "fp16", "a": "int8-grouped"}
    assert Part({}, stated).assign(layers) == formats | {"l": "fp16"}


def test_some_of_many_recordings() -> None:
    seconds = {str(i): 10.0 for i in range(10)}
    assert spread(seconds, 100) == list(seconds)
    assert spread(seconds, 30) == ["0", "4", "8"]


@pytest.fixture(scope="module")
def fp32(digits: Path) -> Files:
    return ncnn_files(digits / "fp32")


@pytest.fixture(scope="module")
def found(fp32: Files) -> list[Group]:
    return groups.find(fp32, model.inspect(MODEL / "pretrained.pt", "lstm")[1])


@pytest.fixture(scope="module")
def task(fp32: Files) -> Task:
    description = model.inspect(MODEL / "pretrained.pt", "lstm")[1]
    wavs = sorted((MODEL / "test_wavs").glob("*.wav"))[:4]
    return Task(
        precision="mine",
        fp32=fp32,
        description=description,
        recordings={wav.name: audio.read(wav) for wav in wavs},
        said={},
        symbols=tokens.read(MODEL / "tokens.txt", description["sizes"]["vocab_size"]),
        rules=scoring.WORDS,
        budget=Budget(max_differing_frames=1),
        limits=LIMITS,
    )


@pytest.fixture(scope="module")
def measured(
    task: Task, found: list[Group], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """What was measured of the layers, in two shards; the second is measured twice."""
    folder = tmp_path_factory.mktemp("sensitivity")
    shards = []
    for shard in (1, 2, 2):
        pairs = sensitivity.share(found, shard, 2)
        few = dict(list(task.recordings.items())[:1])
        rows = sensitivity.measure(task.fp32, task.description, few, pairs, folder / "cache")
        shards.append(folder / f"{shard}.jsonl")
        sensitivity.write(shards[-1], rows)
    return shards[:2]


def test_sizes_are_those_of_the_files(fp32: Files, found: list[Group], tmp_path: Path) -> None:
    graph = param_file.read(fp32["encoder"][0])
    layers = [(layer.name, layer.type) for layer in graph.layers]
    formats = {x: g.quantizing[-1] for g in found if g.part == "encoder" for x in g.layers}
    assert {"int8-grouped", "int8-apart"} == set(formats.values())

    def written(folder: Path, stated: dict[str, str]) -> int:
        recipe = Recipe({"encoder": Part({}, stated)}, {"decoder": "fp32", "joiner": "fp32"})
        return stored(fp32, recipe, folder)["encoder"][1].stat().st_size

    sizes = {g.layers: g.sizes for g in found if g.part == "encoder"}
    smaller = sum(x["fp16"] - x[formats[layers_[0]]] for layers_, x in sizes.items())
    quantized = written(tmp_path / "int8", groups.selectors(layers, formats))
    assert quantized == written(tmp_path / "fp16", {}) - smaller
    assert groups.plain_size({"encoder": fp32["encoder"]}) == written(tmp_path / "again", {})


def test_a_shard_goes_on_where_it_was(
    task: Task, found: list[Group], measured: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measured[1].read_bytes()
    monkeypatch.setattr(agreement.Reference, "compare", None)  # nothing is measured again
    pairs, cache = sensitivity.share(found, 2, 2), measured[0].parent / "cache"
    rows = sensitivity.measure(task.fp32, task.description, {}, pairs, cache)
    sensitivity.write(measured[1], rows)
    assert measured[1].read_bytes() == before
    assert {x.part for x in found} == {"encoder", "decoder", "joiner"}


def test_layers_that_are_kept_are_not_searched(task: Task, found: list[Group]) -> None:
    kept = {"encoder": ["linear_8", "lstm_13"], "joiner": ["linear_*"]}
    left = groups.find(task.fp32, task.description, kept)
    names = {x for group in found for x in group.layers}
    others = {"linear_8", "lstm_13", "linear_1", "linear_2", "linear_3"}
    assert {x for group in left for x in group.layers} == names - others
    with pytest.raises(UserError, match="keep: no layer with weights is called nothing"):
        groups.find(task.fp32, task.description, {"joiner": ["nothing"]})


def test_what_was_not_measured_is_named(found: list[Group], measured: list[Path]) -> None:
    with pytest.raises(UserError, match="in int8-grouped was not measured.*made again"):
        sensitivity.errors(measured[:1], found)


def test_a_real_models_recipe(
    task: Task, found: list[Group], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found is within the budget by another measurement of the files that its own
    configuration makes, and the point before it is not. Weights are rounded to a few levels, for
    this model loses nothing by int8 in so little audio."""
    monkeypatch.setattr(layer_formats, "scales_of", partial(scales_of, limit=2))
    one = dict(list(task.recordings.items())[:1])
    pairs = sensitivity.share(found, 1, 1)
    rows = sensitivity.measure(task.fp32, task.description, one, pairs, tmp_path / "cache")
    sensitivity.write(tmp_path / "all.jsonl", rows)
    errors = sensitivity.errors([tmp_path / "all.jsonl"], found)
    points = automatic.points(found, errors, [group.sizes for group in found])
    assert set(points[-1].formats) == {"fp16"} and points[0].cost < 0.6 * points[-1].cost
    chosen, tried = automatic.search(task, found, points)
    assert 0 < chosen < len(points) - 1 and {0, chosen, len(points) - 1} <= tried.keys()
    assert tried[chosen]["differing_frames"] <= 1 < tried[chosen - 1]["differing_frames"]
    result = curve.describe(task.fp32, found, points, None, chosen, tried)

    raw = yaml.safe_load(curve.configuration("mine", result))["precisions"]["mine"]
    recipe = Quantized.model_validate(raw).to_recipe()
    files = stored(task.fp32, recipe, tmp_path)
    again = agreement.compare(task.fp32, files, task.description, task.recordings)
    assert again["all"]["differing_frames"] == tried[chosen]["differing_frames"] <= 1
    sizes = sum(bin_.stat().st_size for _, bin_ in files.values())
    assert sizes == result["points"][chosen]["bytes"]
    # The workflow's own files are the same as those that the configuration makes.
    own = stored(
        task.fp32,
        Recipe({part: Part(**how) for part, how in result["recipe"].items()}),
        tmp_path / "own",
    )
    for part in files:
        for one, other in zip(files[part], own[part], strict=True):
            assert one.read_bytes() == other.read_bytes()
    lines = curve.table(result).splitlines()
    assert len(lines) == 1 + len(points) and lines[1 + chosen].split("\t")[1] == "yes"


def test_impossible_budgets_are_refused(task: Task, found: list[Group]) -> None:
    """Said with what the most exact formats reach."""
    exact = [Point(("fp16",) * len(found), 1.0, 0.0)]
    impossible = replace(task, limits=replace(LIMITS, max_token_edits=-1.0), budget=Budget())
    with pytest.raises(UserError, match=r"mine.auto: no formats are.*in fp16, the token edits"):
        automatic.search(impossible, found, exact)
    silent = {"silence": np.zeros(16000, np.float32)}
    with pytest.raises(UserError, match="nothing can be measured, for fp32 finds only 0 tokens"):
        automatic.search(replace(task, recordings=silent), found, exact)


def test_a_budget_by_hand() -> None:
    figures = {"differing_frames": 3, "emitting_frames": 40, "agreement": 0.925, "rise": 0.5}
    kept = Budget(max_differing_frames=3, min_agreement=0.925, max_rise=0.5)
    assert not list(kept.shortfalls(figures))
    beyond = list(Budget(2, 0.93, 0.4).shortfalls(figures))
    for sentence, words in zip(
        beyond,
        (
            "3 of the 40 frames .* max_differing_frames allows 2",
            "agreement of 92.50%, and min_agreement asks for 93.00%",
            "0.50 percentage points above fp32's, and max_rise allows 0.4",
        ),
        strict=True,
    ):
        assert re.search(words, sentence)


def test_the_rise_of_the_word_error_rate(task: Task, found: list[Group]) -> None:
    """Against what fp32 says itself, what it lacks of the words is what it is charged with."""
    texts = agreement.Reference(task.fp32, task.description, task.recordings).texts
    said = {name: tokens.to_text(ids, list(task.symbols)) for name, ids in texts.items()}
    exact = [Point(("fp16",) * len(found), 1.0, 0.0)]
    asked = replace(task, said=said, budget=Budget(max_rise=0.0))
    _, tried = automatic.search(asked, found, exact)
    assert tried[0]["rise"] == 0


def test_times_are_of_each_format(task: Task, found: list[Group]) -> None:
    samples = next(iter(task.recordings.values()))
    times = timing.of_groups(timing.measure(task.fp32, task.description, samples, found), found)
    for group, by_format in zip(found, times, strict=True):
        assert by_format.keys() == group.sizes.keys()
        assert all(0 < seconds < 1 for seconds in by_format.values())
