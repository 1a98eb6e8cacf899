"""What is said at the end of a run: what was delivered, what failed and why."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import pytest

from transducer2ncnn.evaluation import comparison
from transducer2ncnn.workflow.summary import DETAILED, Job, lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "trace-encoder.log"
    path.write_text("loading\nerror: the first, which says why\nerror: another\n")
    return path


def job(model: str, message: str = "", **more: object) -> Job:
    defaults = {"log": Path("none.log"), "delivers": None, "done": True}
    return Job(model, f"{model}: {message}", **defaults | more)


def delivering(model: str, precision: str, done: bool = True) -> Job:
    return job(model, delivers=f"results/{model}/sherpa-ncnn/{precision}", done=done)


def failed(model: str, log: Path) -> Job:
    return job(model, "tracing the encoder", log=log, done=False, failed_in=log)


def test_of_many_models_each_has_a_line(tmp_path: Path, log: Path) -> None:
    names = [f"m{i}" for i in range(DETAILED)]
    jobs = [delivering(name, p) for p in ("fp32", "fp16") for name in reversed(names)]
    jobs += [failed("broken", log), delivering("broken", "fp32", done=False)]
    said = list(lines(tmp_path, jobs))
    assert said[: len(names)] == [
        f"{name}: results/{name}/sherpa-ncnn/fp16, results/{name}/sherpa-ncnn/fp32"
        for name in names
    ]
    assert said[len(names) :] == [
        "",
        f"{DETAILED} of {DETAILED + 1} models are finished",
        "broken is not; delivered: nothing",
        "  failed: tracing the encoder",
        "    the first, which says why",
        f"    {log}",
    ]


def test_a_precision_that_failed_leaves_the_others_delivered(tmp_path: Path, log: Path) -> None:
    jobs = [failed("m", log), delivering("m", "int8", done=False), delivering("m", "fp16")]
    assert "m is not; delivered: results/m/sherpa-ncnn/fp16" in lines(tmp_path, jobs)


def test_what_never_ran_is_told_from_what_failed(tmp_path: Path, log: Path) -> None:
    said = list(lines(tmp_path, [failed("a", log), job("b", "waiting", done=False)]))
    assert said[-2:] == ["b is not; delivered: nothing", "  the run was stopped before"]
    assert not any("waiting" in line for line in said)


def test_a_damaged_file_hides_nothing_of_other_models(tmp_path: Path, log: Path) -> None:
    record = tmp_path / "a" / "release" / "published.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    said = list(lines(tmp_path, [job("a", makes=frozenset({str(record)})), failed("b", log)]))
    (error,) = (line for line in said if line.startswith("error: "))
    assert str(record) in error and error.endswith(
        "Delete the file, and run snakemake to have it made again."
    )
    assert "    the first, which says why" in said


def test_what_was_released_is_named_where_a_run_made_it(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "release"
    archive = str(folder / "sherpa-ncnn-m-1.tar.bz2")
    jobs = [
        job("m", makes=frozenset({archive})),
        job("m", makes=frozenset({f"{folder}/SHA256SUMS"})),
    ]
    assert list(lines(tmp_path, jobs)) == ["", f"{archive}    the archive"]
    folder.mkdir(parents=True)
    record = folder / "published.json"
    record.write_text(json.dumps({"address": "https://huggingface.co/a/b/commit/0"}))
    said = list(lines(tmp_path, [*jobs, job("m", makes=frozenset({str(record)}))]))
    assert said[-1] == "https://huggingface.co/a/b/commit/0    where it is published"
    unfinished = [job("m", makes=frozenset({archive})), job("m", done=False)]
    assert not any("the archive" in line for line in lines(tmp_path, unfinished))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it left no log"),
        ("\n", "its log is empty: it was killed"),
        ("Traceback (most recent call last):\n  …\nMemoryError: no\n", "MemoryError: no"),
        ("error: " + 500 * "x" + 500 * "y", 300 * "x" + " … " + 300 * "y"),
    ],
)
def test_why_a_job_failed_when_its_log_does_not_say(
    tmp_path: Path, content: str | None, why: str
) -> None:
    log = tmp_path / "a.log"
    if content is not None:
        log.write_text(content)
    *_, said, where = lines(tmp_path, [failed("a", log)])
    assert said.strip().startswith(why)
    assert where.strip() == str(log)


def test_an_errors_list_is_shown_as_far_as_it_is_of_use(tmp_path: Path) -> None:
    log = tmp_path / "check.log"
    log.write_text("error: wrong:\n  line 1: a\n  line 2: b\nnot of the list\n  nor this\n")
    *_, first, a, b, where = lines(tmp_path, [failed("m", log)])
    assert [first, a, b, where] == [
        "    wrong:",
        "      line 1: a",
        "      line 2: b",
        f"    {log}",
    ]
    log.write_text("error: wrong:\n" + "".join(f"  line {i}\n" for i in range(1, 101)))
    *_, last, more, where = lines(tmp_path, [failed("m", log)])
    assert (last, more) == ("      line 5", "      … 95 more lines in the log")


def test_the_warnings_of_a_job_that_failed_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "verify.log"
    log.write_text("warning: the calibration is silent\nlong\nerror: int8 is not delivered\n")
    *_, said, warning, where = lines(tmp_path, [failed("m", log)])
    assert said.strip() == "int8 is not delivered"
    assert warning.strip() == "warning: the calibration is silent"
    assert where.strip() == str(log)


@pytest.mark.parametrize("proves_nothing", [False, True])
def test_a_quantized_folder_is_shown_with_what_its_gate_found(
    tmp_path: Path, proves_nothing: bool
) -> None:
    folder = tmp_path / "m" / "sherpa-ncnn" / "int8"
    folder.mkdir(parents=True)
    (folder / "encoder_jit_trace-pnnx.ncnn.int8.bin").write_bytes(bytes(2048))
    (folder / "decoder_jit_trace-pnnx.ncnn.bin").write_bytes(bytes(2048))
    found = made_up.verification("int8") | {"warnings": ["it is quiet"]}
    found["proves_nothing"] = proves_nothing
    found["parts"]["decoder"] = {"agreement": None}
    (tmp_path / "m" / "verification").mkdir()
    (tmp_path / "m" / "verification" / "int8.json").write_text(json.dumps(found))
    said = list(lines(tmp_path, [job("m", delivers=str(folder))]))
    encoder = next(line for line in said if "encoder_jit" in line)
    assert encoder.endswith(
        "2.0 KiB   finds fp32's best token in 98.3% of the frames that emit one"
    )
    decoder = next(line for line in said if "decoder_jit" in line)
    assert decoder.endswith("no frame emits a token: nothing is proven")
    assert "  WARNING: it is quiet" in said
    unproven = "  WARNING: not proven: fp32 finds only 59 tokens in 31.1 s of audio"
    text = "  token edits from fp32's 59 tokens (31 s of audio): 1"
    assert (unproven in said, text in said) == (proves_nothing, not proves_nothing)


def test_transcripts_are_compared_as_an_evaluation_compares_them(tmp_path: Path) -> None:
    folder, transcripts = tmp_path / "m" / "sherpa-ncnn" / "fp32", tmp_path / "m" / "transcripts"
    for path in (folder, transcripts, tmp_path / "m" / "verification"):
        path.mkdir(parents=True)
    (tmp_path / "m" / "verification" / "fp32.json").write_text(
        json.dumps(made_up.verification("fp32"))
    )
    table = transcripts / "fp32.tsv"
    rows = [("零 四 七", "零四七"), ("Hello", "HELLO"), ("one two", "onetwo")]
    lines_ = [f"{i}.wav\t{said}\t{text}\t{text}\tyes" for i, (said, text) in enumerate(rows)]
    table.write_text("\n".join(["wav\treference\tsherpa-ncnn\tncnn\tagree", *lines_]) + "\n")
    made = job("m", delivers=str(folder), makes=frozenset({str(table)}))
    said = list(lines(tmp_path, [made]))
    assert "    sherpa-ncnn transcribed 2 of 3 as their transcripts say" in said


def test_a_folder_that_is_not_of_this_run_is_not_said_to_be_delivered(
    tmp_path: Path, log: Path
) -> None:
    """Its verification is gone: it was to be made again, and that failed."""
    (tmp_path / "m" / "sherpa-ncnn" / "fp16").mkdir(parents=True)
    delivers = str(tmp_path / "m" / "sherpa-ncnn" / "fp16")
    jobs = [failed("m", log), job("m", delivers=delivers, done=False)]
    assert "m is not; delivered: nothing" in lines(tmp_path, jobs)


def evaluated(results: Path) -> tuple[str, str]:
    """The table and the comparison of an evaluation that a run left."""
    folder = results / "m" / "evaluation"
    folder.mkdir(parents=True)
    rates = {"wer": {"rate": 0.0, "low": 0.0, "high": 0.0}, "ser": {"rate": 0.0}}
    counts = dict.fromkeys(("substitutions", "deletions", "insertions"), 0)
    rates["wer"] |= counts
    rates["cer"] = rates["wer"]
    score = rates | {
        "precision": "int8-small",
        "unit": "mixed",
        "warnings": ["int8-small is far worse"],
        "pytorch": rates,
        "rise": {"rate": 0.0, "low": 0.0, "high": 0.0},
        "agreement": {"rate": 1.0},
    }
    about = {"utterances": 3, "words": 9, "seconds": 7.0, "decoding": "greedy_search"}
    (folder / "int8-small.json").write_text(json.dumps(score | about))
    spread = {"median": 0.5}
    speed = dict.fromkeys(("real_time_factor", "first_token_latency", "peak_memory_mb"), spread)
    measured = {"precisions": {"int8-small": speed | {"bytes": 1000}}}
    comparison.write(folder / "table.tsv", comparison.rows([score], measured))
    (folder / "comparison.json").write_text('{"pairs": []}')
    return str(folder / "table.tsv"), str(folder / "comparison.json")


def test_what_a_run_did_not_ask_for_is_not_shown(tmp_path: Path) -> None:
    """It is there from a run before, and may be of another model by now."""
    table, pairs = evaluated(tmp_path)
    (tmp_path / "m" / "report.html").touch()
    assert not any(line for line in lines(tmp_path, [job("m", "delivering")]))
    partial = list(lines(tmp_path, [job("m", "tabulating", makes=frozenset({table}))]))
    assert partial[1] == f"{table}: 3 recordings, 9 characters and words, 7 s, greedy search"
    assert partial[2].split()[:6] == ["system", "MER", "%", "95", "%", "interval"]
    assert "CER %" in partial[2]
    assert partial[-2].startswith("  int8-small")
    assert partial[-1] == "  WARNING: int8-small is far worse"
    both = frozenset({table, pairs})

    def said() -> list[str]:
        return list(lines(tmp_path, [job("m", "comparing", makes=both)]))

    # Nothing was compared, so there is nothing to say of chance.
    assert not any("chance" in line for line in said())
    pair = {"a": "pytorch", "b": "int8-small", "difference": 0.0, "significant": False}
    Path(pairs).write_text(json.dumps({"pairs": [pair]}))
    assert any("within chance" in line for line in said())
    page = frozenset({str(tmp_path / "m" / "report.html")})
    assert any("as a page" in line for line in lines(tmp_path, [job("m", makes=page)]))


@pytest.mark.parametrize("number", [1, DETAILED + 1])
def test_tokens_that_sherpa_ncnn_does_not_print_are_said(tmp_path: Path, number: int) -> None:
    (tmp_path / "m0").mkdir()
    tokens = tmp_path / "m0" / "tokens.txt"
    tokens.write_text("<blk> 0\n<0xE9> 1\n▁THE 2\n")
    (tmp_path / "m0" / "model.json").write_text('{"sizes": {"vocab_size": 3}}')
    jobs = [job("m0", makes=frozenset({str(tokens)}))]
    said = list(lines(tmp_path, jobs + [job(f"m{i}") for i in range(1, number)]))
    assert any("WARNING: token 2 is '▁THE', and sherpa-ncnn never" in line for line in said)
    assert any("WARNING: its tokens spell bytes (byte fallback" in line for line in said)


def test_of_jobs_that_failed_together_the_one_with_the_error_is_named(
    tmp_path: Path, log: Path
) -> None:
    quiet = tmp_path / "reading.log"
    quiet.write_text("all is well\n")
    together = {"done": False, "failed_in": "a group"}
    jobs = [
        job("a", "reading", log=quiet, **together),
        job("a", "tracing", log=log, **together),
        job("a", "converting", **together),
        job("a", "observing", log=quiet, done=False, failed_in="another job"),
        job("b", "reading", log=quiet, **together),
        job("b", "converting", **together),
    ]
    said = [line for line in lines(tmp_path, jobs) if "failed: " in line or " is not; " in line]
    assert said == [
        "a is not; delivered: nothing",
        "  failed: tracing",
        "  failed: observing",
        "b is not; delivered: nothing",
        "  failed: reading",
        "  failed: converting",
    ]


@pytest.mark.parametrize("number", [1, DETAILED + 1])
def test_what_devices_may_compute_wrong_is_said(tmp_path: Path, number: int) -> None:
    names = [f"m{i}" for i in range(number)]
    folder = tmp_path / "m0" / "verification"
    folder.mkdir(parents=True)
    warnings = ("blob '35' reaches 41,000", "fp16 on an emulated cortex-a76: another text")
    headroom, target = folder / "headroom.json", folder / "target-cortex-a76.json"
    headroom.write_text(json.dumps(made_up.headroom(warnings[:1])))
    target.write_text(json.dumps(made_up.on_target(warnings[1:])))
    jobs = [job(name, makes=frozenset({str(headroom), str(target)})) for name in names]
    said = list(lines(tmp_path, jobs))
    for warning in warnings:
        assert said.count(f"  WARNING: {warning}") == 1
    # Not of a run before.
    assert "WARNING" not in " ".join(lines(tmp_path, [job(name) for name in names]))
