"""Scores, against cases counted by hand and distributions that are known."""

from __future__ import annotations

import math
import random

import jiwer
import numpy as np
import pytest

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import comparison, gate, scoring
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.speech.recordings import Utterance


def utterance(id_: str, text: str, duration: float = 1.0) -> Utterance:
    return Utterance(id_, f"{id_}.wav", text, 0.0, duration, None, "")


def heard(*texts: str) -> dict[str, Heard]:
    """By ids "0", "1", …; a token a word."""
    return {str(i): Heard(text.split(), text) for i, text in enumerate(texts)}


def utterances(*texts: str) -> list[Utterance]:
    return [utterance(str(i), text) for i, text in enumerate(texts)]


def test_word_errors_counted_by_hand() -> None:
    found = scoring.word_errors(
        ["ONE TWO THREE", "FOUR", "FIVE SIX", "SEVEN"],
        ["one  TWO four", "", "FIVE SIX", "X SEVEN Y"],
    )
    assert found.words.tolist() == [3, 1, 2, 1]
    assert found.substitutions.tolist() == [1, 0, 0, 0]
    assert found.deletions.tolist() == [0, 1, 0, 0]
    assert found.insertions.tolist() == [0, 0, 0, 2]
    assert found.errors.tolist() == [1, 1, 0, 2]


def test_totals_are_jiwers() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdef", k=rng.randint(1, 9))) for _ in range(200)]
    references, hypotheses = texts[:100], texts[100:]
    found = scoring.word_errors(references, hypotheses)
    expected = jiwer.process_words(references, hypotheses)
    assert found.substitutions.sum() == expected.substitutions
    assert found.deletions.sum() == expected.deletions
    assert found.insertions.sum() == expected.insertions
    assert scoring.word_error_rate(found)["rate"] == pytest.approx(expected.wer)


def test_the_interval_of_a_share_is_the_binomials() -> None:
    # 60 right of 400: resampled, the number of wrong ones is binomial.
    wrong = np.arange(400) < 60
    low, high = scoring.interval(wrong, np.ones(400))
    sigma = math.sqrt(0.15 * 0.85 / 400)
    assert low == pytest.approx(0.15 - 1.96 * sigma, abs=0.004)
    assert high == pytest.approx(0.15 + 1.96 * sigma, abs=0.004)


def test_the_interval_weighs_utterances_by_their_words() -> None:
    # Two utterances: both the long one, both the short one, or, half of the time, one of each.
    low, high = scoring.interval(np.array([0, 1]), np.array([9, 1]))
    assert (low, high) == (0.0, 1.0)
    # Errors that go with the words leave nothing to chance.
    words = np.arange(1, 101)
    assert scoring.interval(words, 2 * words) == (0.5, 0.5)


def test_the_interval_of_the_mean_of_a_known_distribution() -> None:
    values = np.random.default_rng(1).standard_normal(500)
    low, high = scoring.interval(values, np.ones(500))
    half = 1.96 * values.std() / math.sqrt(500)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_interval_is_the_same_however_much_is_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors, words = np.arange(50) % 3, np.arange(50) + 1
    before = scoring.interval(errors, words)
    monkeypatch.setattr(scoring, "DRAWN_AT_ONCE", 1234)
    assert scoring.interval(errors, words) == before


def test_a_paired_difference_is_sure_where_the_rates_are_not() -> None:
    """One word more is wrong in every second utterance, some of which are hard for both."""
    said = ["A B C D E F G H"] * 200
    hard = ["A B C D" if i % 4 < 2 else said[i] for i in range(200)]
    worse = [text[:-2] if i % 2 else text for i, text in enumerate(hard)]
    found = scoring.score(utterances(*said), heard(*hard), heard(*worse))
    assert found["pytorch"]["wer"]["rate"] == 0.25
    assert found["rise"]["rate"] == pytest.approx(0.5 / 8)
    assert found["rise"]["significant"] is True
    assert 0.05 < found["rise"]["low"] < 0.5 / 8 < found["rise"]["high"] < 0.08
    # Unpaired, they overlap.
    assert found["wer"]["low"] < found["pytorch"]["wer"]["high"]


def test_a_difference_that_may_be_chance() -> None:
    said = [f"A B C {i}" for i in range(40)]
    one = ["A B C X", *said[1:]]
    (pair,) = scoring.compare(utterances(*said), {"fp32": heard(*said), "int8": heard(*one)})
    assert (pair["a"], pair["b"]) == ("fp32", "int8")
    assert pair["difference"] == pytest.approx(1 / 160)
    assert pair["low"] == 0.0
    assert pair["significant"] is False
    (back,) = scoring.compare(utterances(*said), {"int8": heard(*one), "fp32": heard(*said)})
    assert back["difference"] == -pair["difference"]
    assert (back["low"], back["high"]) == (-pair["high"], -pair["low"])


def test_scores_counted_by_hand() -> None:
    said = utterances("A B C", "D E", "F")
    pytorch = heard("A B C", "D X", "F")
    int8 = heard("A B", "D X", "F G")
    found = scoring.score(said, pytorch, int8)
    assert (found["utterances"], found["words"], found["seconds"]) == (3, 6, 3.0)
    wer = found["wer"]
    assert wer["rate"] == pytest.approx(3 / 6)
    assert (wer["substitutions"], wer["deletions"], wer["insertions"]) == (1, 1, 1)
    assert found["ser"]["rate"] == 1.0
    assert found["pytorch"]["ser"] == pytest.approx(
        {"rate": 1 / 3, "wrong": 1} | {k: found["pytorch"]["ser"][k] for k in ("low", "high")}
    )
    assert found["rise"]["rate"] == pytest.approx(2 / 6)
    # A B C|- and F|G besides the four that are the same: 7 places in the alignment, 5 the same.
    assert found["agreement"] == {
        "tokens": 7,
        "same": 5,
        "rate": 5 / 7,
        "utterances": 3,
        "identical": 1,
    }
    first, second = found["differences"]
    assert (first["id"], second["id"]) == ("0", "2")
    assert (first["pytorch"], first["sherpa_ncnn"]) == ("A B C", "A B")
    assert (first["errors"], first["pytorch_errors"], first["token_edits"]) == (1, 0, 1)


def test_the_largest_differences_come_first() -> None:
    texts = [" ".join("ABCDEFGHIJ"[: i % 10 + 1]) for i in range(30)]
    found = scoring.score(utterances(*texts), heard(*texts), heard(*[""] * 30))
    errors = [row["errors"] for row in found["differences"]]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == scoring.LISTED
    assert errors[:3] == [10, 10, 10]


def test_silence_agrees_with_silence() -> None:
    found = scoring.score(utterances("A"), heard(""), heard(""))
    assert found["agreement"]["rate"] == 1.0
    assert found["wer"]["rate"] == 1.0
    assert found["wer"]["deletions"] == 1


def evaluation(said: list[str], pytorch: list[str], int8: list[str]) -> dict:
    found = scoring.score(utterances(*said), heard(*pytorch), heard(*int8))
    return {"precision": "int8"} | found


def test_the_gate() -> None:
    said = ["A B C D"] * 50
    worse = ["A B C X"] * 10 + said[10:]
    lost = evaluation(said, said, worse)  # 10 of 200 words: 5 points
    gate.check_rise(lost, 5.0)
    gate.check_rise(evaluation(said, worse, said), 0.0)  # better than PyTorch
    with pytest.raises(UserError) as caught:
        gate.check_rise(lost, 4.9)
    message = str(caught.value)
    assert "int8 is not delivered: its word error rate is 5.00 percentage points above" in message
    assert "evaluation.max_rise.int8 allows 4.9" in message
    assert "It is 5.00%, PyTorch's 0.00%" in message
    assert "chance" not in message
    with pytest.raises(UserError, match="so it may be chance"):
        gate.check_rise(evaluation(said, said, ["A B C X", *said[1:]]), 0.1)


def test_the_table(tmp_path) -> None:
    spread = {"median": 0.25, "min": 0.2, "max": 0.3}
    measured = dict.fromkeys(
        ("real_time_factor", "first_token_latency", "peak_memory_mb"), spread
    ) | {"bytes": 2_500_000}
    found = evaluation(["A B C D"] * 2, ["A B C D"] * 2, ["A B C X", "A B C D"])
    rows = comparison.rows([found], {"precisions": {"int8": measured}})
    comparison.write(tmp_path / "table.tsv", rows)
    reference, int8 = comparison.read(tmp_path / "table.tsv")
    assert reference["system"] == "PyTorch fp32"
    assert (reference["WER %"], reference["RTF"]) == ("0.00", "")
    assert (int8["WER %"], int8["SER %"], int8["above PyTorch"]) == ("12.50", "50.00", "+12.50")
    assert (int8["same tokens %"], int8["disk MB"]) == ("87.50", "2.5")
    # Not one recording gave a token: there is no latency to speak of.
    silent = {"int8": measured | {"first_token_latency": None}}
    (_, row) = comparison.rows([found], {"precisions": silent})
    assert row["first token s"] == ""


def test_the_verdict() -> None:
    pair = {"a": "fp32", "b": "int8", "difference": 0.0123, "significant": True}
    assert comparison.verdict({"pairs": [pair]}) == (
        "More than chance: int8 is +1.23 points from fp32."
    )
    assert "within chance" in comparison.verdict({"pairs": [pair | {"significant": False}]})
