"""Evaluation: the two decoders, what is shared out and kept, speed, and the rules as a whole."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import GOLDEN, ROOT, Export, export, lstm_architecture
from test_workflow import Config, Workflow

from transducer2ncnn.base import isolated, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.engines import hotwords, search
from transducer2ncnn.engines.pytorch import TorchTransducer
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.engines.search import Decoding
from transducer2ncnn.evaluation import decoding, heard, speed
from transducer2ncnn.evaluation.decoding import Cache
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.export import assembly
from transducer2ncnn.families import model
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import audio, recordings
from transducer2ncnn.speech.recordings import Utterance

TABLE = GOLDEN / "int8" / "wavs" / "transcripts.tsv"

BEAM = Decoding("modified_beam_search", 4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch with one: a segment's few frames are not worth sharing, least on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def by_sherpa_ncnn(
    folder: Path, symbols: list[str], utterances: list[Utterance], how: Decoding, cache: Path
) -> list[Heard | None]:
    kept = Cache(cache, how)
    decoding.fill_by_sherpa_ncnn(kept, utterances, folder, symbols, 0.5, how, "test")
    return [kept.get(u) for u in utterances]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TorchTransducer]:
    """A golden model, its weights such that fp16 holds them exactly, for sherpa-ncnn in fp32.

    sherpa-ncnn keeps the weights of linear layers in fp16 where the processor converts them
    fast, whatever they are stored as. Beam search on a random model would show the difference.
    """
    folder = tmp_path_factory.mktemp("rounded")
    golden = GOLDEN / "checkpoint-projection"
    network = model.load(golden / "pretrained.pt", "lstm")
    for parameter in network.parameters():
        parameter.copy_(parameter.half())
    export(network, folder)
    description = model.inspect(golden / "pretrained.pt", "lstm")[1]
    files = layout.ncnn_files(folder / "fp32")
    assembly.assemble(files, description, golden / "tokens.txt", folder / "sherpa", assembly.link)
    return folder / "sherpa", TorchTransducer(network)


@pytest.mark.parametrize("how", [search.GREEDY, BEAM], ids=["greedy", "beam"])
def test_pytorch_and_sherpa_ncnn_find_the_same_tokens(
    delivered: tuple[Path, TorchTransducer], tmp_path: Path, how: Decoding
) -> None:
    folder, transducer = delivered
    utterances = recordings.check(TABLE)
    symbols = tokens.read(folder / "tokens.txt", transducer.architecture.sizes.vocab_size)
    found = by_sherpa_ncnn(folder, symbols, utterances, how, tmp_path)
    expected = [
        decoding.heard(search.decode(transducer, recordings.read(u), how), symbols)
        for u in utterances
    ]
    assert found == expected
    assert all(len(one.tokens) > 30 for one in expected)


def test_one_search_runs_on_ncnn_and_on_pytorch(exported: Export) -> None:
    samples = audio.read(GOLDEN / "int8" / "wavs" / "tts-00.wav")
    by_ncnn = NcnnTransducer(exported.files("fp32"), exported.architecture)
    by_pytorch = TorchTransducer(exported.network)
    assert search.decode(by_ncnn, samples) == search.decode(by_pytorch, samples)


class Scripted:
    """A transducer whose joiner says what a table says, by the frame and the last token."""

    architecture = lstm_architecture()

    def __init__(self, probabilities: Callable[[int, int], list[float]]) -> None:
        self._probabilities = probabilities
        self._frame = 0

    def encode(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        self._frame += 1
        return np.full((1, 4), self._frame, dtype=np.float32), inputs[2:]

    def decode(self, context: list[int]) -> np.ndarray:
        return np.array(context, dtype=np.float32)

    def join(self, frame: np.ndarray, decoder_out: np.ndarray) -> np.ndarray:
        found = self._probabilities(int(frame[0]), int(decoder_out[-1]))
        return np.log(np.array(found, dtype=np.float32))


def test_the_beam_adds_the_probabilities_of_paths_with_the_same_tokens() -> None:
    """Token 1 in frame 1 or in frame 2: 0.4 each way, which together beats 3's 0.45."""

    def probabilities(frame: int, last: int) -> list[float]:
        if frame == 1:
            return [0.15, 0.40, 1e-9, 0.45]
        if frame == 2 and last == 0:
            return [0.01, 0.98, 1e-9, 0.01]
        return [1.0, 1e-9, 1e-9, 1e-9]

    samples = np.zeros(1600, dtype=np.float32)
    assert search.decode(Scripted(probabilities), samples) == [3]
    assert search.decode(Scripted(probabilities), samples, BEAM) == [1]


def test_the_reference_emits_a_token_2_that_is_a_word() -> None:
    transducer = Scripted(lambda frame, last: [0.05, 0.04, 0.9, 0.01])
    samples = np.zeros(1600, dtype=np.float32)
    for how in (search.GREEDY, BEAM):
        reference = dataclasses.replace(how, never_emitted=(0,))
        assert set(search.decode(transducer, samples, reference)) == {2}
        assert search.decode(transducer, samples, how) == []


HOTWORDS = [
    (["<sos/eos> A <sos/eos>", "A A"], 1.5),
    (["A", "A B", "B A A", "<sos/eos> B"], 0.5),
    (["C C C", "C", "<sos/eos> <sos/eos>"], 4.0),
]


@pytest.mark.parametrize(("phrases", "score"), HOTWORDS)
def test_hotwords_gain_what_they_gain_in_sherpa_ncnn(
    delivered: tuple[Path, TorchTransducer], tmp_path: Path, phrases: list[str], score: float
) -> None:
    folder, transducer = delivered
    utterances = recordings.check(TABLE)[:2]
    symbols = tokens.read(folder / "tokens.txt", transducer.architecture.sizes.vocab_size)
    (tmp_path / "hotwords.txt").write_text("\n".join(phrases) + "\n\n")
    wanted = hotwords.read(tmp_path / "hotwords.txt", symbols, score)
    how = dataclasses.replace(BEAM, hotwords=wanted)
    found = by_sherpa_ncnn(folder, symbols, utterances, how, tmp_path)
    samples = [recordings.read(u) for u in utterances]
    assert found == [decoding.heard(search.decode(transducer, x, how), symbols) for x in samples]
    plain = [decoding.heard(search.decode(transducer, x, BEAM), symbols) for x in samples]
    assert found != plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\nB Q\n", "line 2: 'Q' is no token of the model. Expected a phrase's tokens"),
        ("AB\n", "line 1: 'AB' is no token"),
        ("A ▁A\n", "line 1: sherpa-ncnn cannot look for '▁A'"),
        ("A B :3\n", "line 1: found the score ':3', which sherpa-ncnn ignores.*hotwords_score"),
        ("\n", "holds no hotwords"),
    ],
)
def test_hotwords_that_sherpa_ncnn_cannot_look_for(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "hotwords.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        hotwords.read(tmp_path / "hotwords.txt", ["<blk>", "A", "B", "▁A"], 1.5)


@pytest.mark.parametrize("how", [search.GREEDY, BEAM])
def test_unk_is_never_emitted(how: Decoding) -> None:
    transducer = Scripted(lambda frame, last: [0.05, 0.04, 0.9, 0.01])
    assert search.decode(transducer, np.zeros(1600, dtype=np.float32), how) == []


def listed(*durations: float) -> list[Utterance]:
    return [Utterance(str(i), f"{i}.wav", "X", 0.0, d, None, "") for i, d in enumerate(durations)]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_hold_everything_once_and_last_about_as_long(shards: int) -> None:
    rng = np.random.default_rng(0)
    utterances = listed(*rng.exponential(5.0, 50), 60.0)
    shares = [decoding.share(utterances, i + 1, shards) for i in range(shards)]
    assert sorted(u.id for share in shares for u in share) == sorted(u.id for u in utterances)
    seconds = [sum(u.duration for u in share) for share in shares]
    assert max(seconds) <= max(60.0, sum(seconds) / shards + 1.0)
    assert all(share == sorted(share, key=utterances.index) for share in shares)


def test_sharing_is_by_duration_not_by_number() -> None:
    shares = [decoding.share(listed(1, 1, 1, 9, 1, 1), i, 2) for i in (1, 2)]
    assert [[u.id for u in share] for share in shares] == [["3"], ["0", "1", "2", "4", "5"]]


def test_more_shards_than_utterances() -> None:
    assert decoding.share(listed(1.0), 2, 2) == []


def test_what_the_cache_hangs_on(tmp_path: Path) -> None:
    (one, two) = (dataclasses.replace(u, sha256=s) for u, s in zip(listed(1, 1), "ab", strict=True))
    cache = Cache(tmp_path, "model", search.GREEDY)
    cache.put(one, Heard(["▁A"], "A"))
    assert Cache(tmp_path, "model", search.GREEDY).get(one) == Heard(["▁A"], "A")
    assert cache.get(two) is None
    assert Cache(tmp_path, "other", search.GREEDY).get(one) is None
    assert Cache(tmp_path, "model", BEAM).get(one) is None
    assert cache.get(dataclasses.replace(one, id="renamed")) is not None
    next(tmp_path.rglob("*.json")).write_text("")
    assert cache.get(one) is None


KILLED = """
import sys, time
from transducer2ncnn.evaluation import decoding
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.speech import recordings
cache = decoding.Cache(sys.argv[1], "x")
def recognise(samples):
    print("decoding", flush=True)
    time.sleep(0.02)
    return Heard(["A"] * 10000, "A " * 10000)
decoding.fill(cache, recordings.check(sys.argv[2]), recognise, "test")
"""


def test_a_job_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    job = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path, TABLE], cwd=ROOT, stdout=subprocess.PIPE
    )
    for _ in range(3):
        job.stdout.readline()
    job.send_signal(signal.SIGKILL)
    job.communicate()
    cache, utterances = Cache(tmp_path, "x"), recordings.check(TABLE)
    known = [u for u in utterances if cache.get(u)]
    assert 2 <= len(known) < 5
    assert all(len(cache.get(u).tokens) == 10000 for u in known)
    lengths: list[int] = []
    left = [u for u in utterances if not cache.get(u)]
    decoding.fill(cache, left, lambda x: lengths.append(len(x)) or Heard([], ""), "test")
    assert len(lengths) == 5 - len(known)
    assert all(cache.get(u) for u in utterances)


def test_a_model_that_sherpa_ncnn_refuses_is_an_error(
    delivered: tuple[Path, TorchTransducer], tmp_path: Path
) -> None:
    folder = shutil.copytree(delivered[0], tmp_path / "bad")
    for file in folder.glob("*.bin"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match="sherpa-ncnn cannot run the model: its process"):
        by_sherpa_ncnn(folder, [], recordings.check(TABLE), search.GREEDY, tmp_path)


class FakeRecognizer:
    """Takes ``cost`` seconds for each call, and has a token once it heard ``needs`` seconds."""

    def __init__(self, clock: list[float], cost: float, needs: float) -> None:
        self._clock, self._cost, self._needs = clock, cost, needs
        self._heard = 0.0
        self.recognizer = self

    def create_stream(self) -> None:
        self._heard = 0.0

    def accept_waveform(self, rate: int, samples: np.ndarray) -> None:
        self._heard += len(samples) / rate
        self._clock[0] += self._cost

    @property
    def tokens(self) -> list[int]:
        return [1] if self._heard >= self._needs else []


@pytest.mark.parametrize(
    ("cost", "heard", "latency"),
    [
        (0.0, 0.3, 0.3),
        (0.01, 0.3, 0.31),  # computing keeps up: only the last chunk's is waited for
        (0.15, 0.3, 0.1 + 3 * 0.15),  # it does not: all of it is
    ],
)
def test_the_first_tokens_latency(
    monkeypatch: pytest.MonkeyPatch, cost: float, heard: float, latency: float
) -> None:
    clock = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    loaded = FakeRecognizer(clock, cost, needs=0.25)
    monkeypatch.setattr(speed.recognizer, "load", lambda *_: loaded)
    second = np.zeros(16000, dtype=np.float32)
    found = speed.run("folder", [second, second, second], 1, 0.5, search.GREEDY)
    assert found["first_token_heard"] == pytest.approx(heard)
    assert found["first_token_latency"] == pytest.approx(latency)
    # 15 chunks, the silence behind it included, which lasts half a second.
    assert found["real_time_factor"] == pytest.approx(15 * cost / 1.5)


def test_recordings_without_a_token_have_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.recognizer, "load", lambda *_: FakeRecognizer([0.0], 0.0, 99.0))
    found = speed.run("folder", [np.zeros(1600, dtype=np.float32)], 1, 0.5, search.GREEDY)
    assert found["first_token_latency"] is None


def test_rounds_are_interleaved_and_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def call(function: Callable, folder: str, *_: Any) -> dict[str, float]:
        calls.append(folder)
        return dict.fromkeys(speed.FIGURES, float(len(calls)))

    monkeypatch.setattr(speed.isolated, "call", call)
    found = speed.measure(
        {"fp32": Path("a"), "int8": Path("b")}, [], rounds=3, threads=1, tail_seconds=0.5
    )
    assert calls == ["a", "b"] * 3
    assert found["int8"]["load_seconds"] == {"median": 4.0, "min": 2.0, "max": 6.0}


def hold_100_mb() -> float:
    before = speed.peak_memory()
    held = np.ones(12_500_000)
    return speed.peak_memory() - before if held.all() else 0.0


@pytest.mark.parametrize("forked", [True, False])
def test_memory_is_what_the_process_itself_takes(
    monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    held = np.ones(50_000_000)  # 400 MB, of which the process that is measured is to know nothing
    assert speed.peak_memory() > held.nbytes / 1e6
    del held
    monkeypatch.setattr(isolated, "may_fork", lambda: forked)
    assert 95 < isolated.call(hold_100_mb) < 120


@pytest.mark.parametrize(
    ("durations", "taken"), [([5.0, 5.0], 2), ([50.0, 9.0, 2.0, 1.0], 2), ([100.0, 1.0], 1)]
)
def test_a_round_takes_about_a_minute_of_audio(durations: list[float], taken: int) -> None:
    assert speed.some(durations) == taken


#: A name of the user's for fp16.
HALF = "my.half-1"


class Evaluation(Workflow):
    """A workflow with one model, evaluated on four of the golden recordings."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wavs = shutil.copytree(TABLE.parent, self.work / "said")
        self.write_table(4)

    def write_table(self, rows: int) -> None:
        (self.wavs / "transcripts.tsv").write_text(
            "".join(line + "\n" for line in TABLE.read_text().splitlines()[: rows + 1])
        )

    def config(self) -> Config:
        config = super().config()
        del config["models"]["no-projection"]
        config["models"]["projection"] = {
            "checkpoint": "projection/pretrained.pt",
            "tokens": "projection/tokens.txt",
            "evaluation": "said/transcripts.tsv",
        }
        config["precisions"] = {"fp32": {}, HALF: {"recipe": "fp16"}}
        config["evaluation"] = {"rounds": 1}
        return config

    @property
    def results(self) -> Path:
        return self.work / "results" / "projection" / "evaluation"

    def scores(self) -> dict[str, bytes]:
        """What may not depend on how the work was shared out."""
        names = ("manifest.jsonl", "fp32.json", f"{HALF}.json", "comparison.json")
        return {name: (self.results / name).read_bytes() for name in names}


SCORE = f"results/projection/evaluation/{HALF}.json"
SYSTEMS = ("fp32", HALF, "PyTorch")


def decoded(output: str) -> int:
    """How many utterances a run decoded anew, by any system."""
    return sum(map(int, re.findall(r"-of-\d\.jsonl: decoded (\d+) utterances", output)))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    evaluation = Evaluation(tmp_path_factory.mktemp("evaluated"))
    output = evaluation.run(evaluation.config())
    assert decoded(output) == 4 * len(SYSTEMS)
    return evaluation


def test_the_artifacts(evaluated: Evaluation) -> None:
    score = json.loads(evaluated.scores()[f"{HALF}.json"])
    assert (score["precision"], score["decoding"]) == (HALF, "greedy_search")
    assert (score["utterances"], score["words"]) == (4, 24)
    assert score["agreement"]["rate"] > 0.9
    measured = json.loads((evaluated.results / "speed.json").read_text())
    assert measured["precisions"].keys() == {"fp32", HALF}
    for figures in measured["precisions"].values():
        assert 0 < figures["real_time_factor"]["min"] <= figures["real_time_factor"]["median"]
    ncnn = evaluated.work / "results/projection/ncnn/fp16"
    size = sum(f.stat().st_size for f in ncnn.glob("*.bin"))
    assert size < measured["precisions"][HALF]["bytes"] < size + 20_000
    table = (evaluated.results / "table.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in table] == ["system", "PyTorch fp32", "fp32", HALF]
    assert evaluated.planned(evaluated.config()) == set()
    assert not list(evaluated.results.rglob(".*"))  # nothing partial


def test_the_table_alone_can_be_asked_for(evaluated: Evaluation) -> None:
    table = evaluated.results / "table.tsv"
    table.unlink()
    said = evaluated.run(evaluated.config(), "results/projection/evaluation/table.tsv")
    assert "results/projection/evaluation/table.tsv: 4 recordings, 24 words" in said
    assert f"\n  {HALF}" in said
    assert "chance" not in said  # which takes the comparison
    # A run about something else shows nothing of it.
    target = "results/projection/verification/fp32.json"
    (evaluated.work / target).unlink()
    assert "recordings" not in evaluated.run(evaluated.config(), target)
    evaluated.run(evaluated.config())


def test_the_figures_are_the_same_for_any_number_of_shards(evaluated: Evaluation) -> None:
    before, config = evaluated.scores(), evaluated.config()
    config["evaluation"]["shards"] = 3
    # What another number of shards decoded is not decoded again.
    assert decoded(evaluated.run(config, SCORE)) == 0
    assert evaluated.scores() == before
    shutil.rmtree(evaluated.results / "cache" / HALF)
    config["evaluation"]["shards"] = 2
    assert decoded(evaluated.run(config, SCORE)) == 4
    assert evaluated.scores() == before
    evaluated.run(evaluated.config(), SCORE)


def test_other_rules_of_decoding_are_other_results(evaluated: Evaluation) -> None:
    config = evaluated.config()
    config["evaluation"] |= {"decoding": "modified_beam_search", "num_active_paths": 2}
    planned = evaluated.planned(config, SCORE)
    assert {"decoding", "scoring"} == {message.split()[1] for message in planned}


def test_a_model_that_lost_too_much_is_not_delivered(evaluated: Evaluation) -> None:
    config = evaluated.config()
    folder = evaluated.work / "results/projection/sherpa-ncnn" / HALF
    assert folder.is_dir()
    path = evaluated.results / f"{HALF}.json"
    content = path.read_text()
    score = json.loads(content)
    score["rise"] = {"rate": 0.0333, "low": -0.01, "high": 0.07, "significant": False}
    config["evaluation"]["max_rise"] = {HALF: 0.5}
    try:
        path.write_text(json.dumps(score))
        done = evaluated.snakemake(config, "--cores", "2", f"results/projection/sherpa-ncnn/{HALF}")
        assert done.returncode != 0
        assert f"{HALF} is not delivered: its word error rate is 3.33 percentage points above" in (
            done.stdout + done.stderr
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert not folder.exists()
        assert json.loads(path.read_text()) == score
    finally:
        path.write_text(content)
    config["evaluation"]["max_rise"] = {HALF: 100.0}
    evaluated.run(config, f"results/projection/sherpa-ncnn/{HALF}")
    assert len(list(folder.iterdir())) == 8


def test_bad_lines_stop_the_run_before_any_decoding(evaluated: Evaluation) -> None:
    config = evaluated.config()
    (evaluated.wavs / "noise.wav").write_bytes(b"not audio")
    lines = ["wav\ttext", "tts-00.wav\tX", "gone.wav\tX", "noise.wav\tX", "tts-00.wav\t"]
    (evaluated.wavs / "bad.tsv").write_text("\n".join(lines) + "\n")
    config["models"]["bad"] = config["models"].pop("projection")
    config["models"]["bad"]["evaluation"] = "said/bad.tsv"
    done = evaluated.snakemake(config, "--cores", "1", "results/bad")
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: the recordings of bad: 4 wrong, to be corrected or left out" in output
    for part in ("gone.wav: no such", "cannot be decoded", "empty transcript", "given before"):
        assert part in output
    assert "Traceback" not in output
    assert not (evaluated.work / "results/bad/model.json").exists()


def test_a_recording_that_is_added_is_all_that_is_decoded(evaluated: Evaluation) -> None:
    folder = f"results/projection/evaluation/decoded/{HALF}"
    shards = [f"{folder}/{shard}-of-2.jsonl" for shard in (1, 2)]
    evaluated.write_table(5)
    assert decoded(evaluated.run(evaluated.config(), *shards)) == 1
    assert len(heard.read(evaluated.work / shard for shard in shards)) == 5
    evaluated.write_table(3)
    assert decoded(evaluated.run(evaluated.config(), *shards)) == 0
    assert len(heard.read(evaluated.work / shard for shard in shards)) == 3
