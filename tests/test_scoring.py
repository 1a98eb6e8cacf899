"""Scores, against cases counted by hand and distributions that are known."""

from __future__ import annotations

import math
import random
from typing import Any

import jiwer
import numpy as np
import pytest

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import comparison, gate, judgement, scoring, units
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


SPREAD = {"median": 0.25, "min": 0.2, "max": 0.3}
MEASURED: dict[str, Any] = dict.fromkeys(
    ("real_time_factor", "first_token_latency", "peak_memory_mb"), SPREAD
) | {"bytes": 2_500_000}


def test_the_table(tmp_path) -> None:
    measured = MEASURED
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
    assert "int8 is +1.23 points from PyTorch" in comparison.verdict(
        {"pairs": [pair | {"a": "pytorch"}]}
    )
    assert comparison.verdict({"pairs": []}) is None


# Scripts without spaces


@pytest.mark.parametrize(
    ("said", "recognised", "unit", "errors", "count"),
    [
        ("零四七", "零 四 七", "mixed", 0, 3),  # characters are tokens, as in icefall's recipes
        ("打开 WIFI", "打 开 wifi", "mixed", 0, 3),
        ("打开wifi吧", "打开 WI FI 吧", "mixed", 2, 4),
        ("ひらがなカタカナ", "ひらがな カタカナ", "mixed", 0, 8),
        ("안녕 하세요", "안녕하세요", "mixed", 0, 5),
        ("สวัสดี", "สวัส ดี", "mixed", 0, 6),
        ("don't stop", "don't stop", "word", 0, 2),
        ("été", "e\u0301te\u0301", "word", 0, 1),  # composed or not
        ("零四七", "零 四 八", "character", 1, 3),
        ("一二", "一 二", "word", 2, 1),  # as stated, not as it should be
    ],
)
def test_texts_by_unit(
    said: str, recognised: str, unit: units.Unit, errors: int, count: int
) -> None:
    found = scoring.word_errors([said], [recognised], scoring.Rules(unit))
    assert (found.errors.sum(), found.words.sum()) == (errors, count)
    if unit == "mixed" or not units._UNSPACED.search(said):
        assert units.find([said]) == unit


@pytest.mark.parametrize(
    ("stated", "text", "expected"),
    [
        ({}, "Ａ１ｶﾞ", "a1ガ"),
        ({"full_width": False}, "Ａ", "ａ"),
        ({"case": False}, "Ab  c", "Ab c"),
        ({}, "a, b.", "a, b."),
        ({"punctuation": True}, "“Don’t,” he said—twice。", "don't he said twice"),
        ({"punctuation": True}, "'tis the 1990's'", "tis the 1990's"),
        ({"punctuation": True}, "…", ""),
    ],
)
def test_what_makes_no_difference(stated: dict[str, bool], text: str, expected: str) -> None:
    assert units.Normalisation(**stated).apply(text) == expected


def test_transcripts_of_nothing_are_an_error() -> None:
    rules = scoring.Rules(normalisation=units.Normalisation(punctuation=True))
    found = scoring.word_errors(["。", "A"], ["X", "A"], rules)
    assert (found.errors.tolist(), found.words.tolist()) == ([1, 0], [0, 1])
    with pytest.raises(UserError, match="nothing is left of any transcript"):
        scoring.word_errors(["。"], ["X"], rules)


def test_a_perfect_recognition_in_chinese_has_no_errors() -> None:
    said = utterances("零四七", "一二")
    symbols = ["<blk>", "<sos/eos>", "<unk>", *"零一二四七八"]
    exact = {"0": Heard(list("零四七"), "零 四 七"), "1": Heard(list("一二"), "一 二")}
    worse = exact | {"1": Heard(list("一八"), "一 八")}
    rules = scoring.rules_for(said, symbols)
    found = scoring.score(said, exact, worse, rules)
    assert (found["unit"], found["words"]) == ("mixed", 5)
    assert found["pytorch"]["wer"]["rate"] == 0.0
    assert found["wer"]["rate"] == found["cer"]["rate"] == 1 / 5
    # In words, every one of them would be wrong.
    stated = scoring.rules_for(said, symbols, unit="word")
    assert scoring.score(said, exact, worse, stated)["pytorch"]["wer"]["rate"] > 1
    rows = comparison.rows([found | {"precision": "int8"}], {"precisions": {"int8": MEASURED}})
    assert (rows[1]["MER %"], rows[1]["CER %"]) == ("20.00", "20.00")


def test_tokens_of_bytes_are_scored_as_what_they_spell() -> None:
    symbols = ["<blk>", "<sos/eos>", "<unk>", "<0xE9>", "<0x9B>", "<0xB6>", "▁A"]
    tokens = ["<0xE9>", "<0x9B>", "<0xB6>", "▁A"]
    text = {"0": Heard(tokens, "".join(tokens).replace("▁", " "))}
    said = utterances("零 A")
    found = scoring.score(said, text, text, scoring.rules_for(said, symbols))
    assert found["wer"]["rate"] == 0.0
    assert found["decoded_bytes"] == "byte fallback"


def test_a_word_that_sherpa_ncnn_never_emits_is_seen() -> None:
    said = utterances(*["THE CAT"] * 20)
    symbols = ["<blk>", "▁CAT", "▁THE"]
    pytorch, sherpa = heard(*["THE CAT"] * 20), heard(*["CAT"] * 20)
    pytorch = {id_: Heard(["▁THE", "▁CAT"], x.text) for id_, x in pytorch.items()}
    found = scoring.score(said, pytorch, sherpa, scoring.rules_for(said, symbols))
    assert found["pytorch"]["wer"]["rate"] == 0.0
    assert (found["wer"]["rate"], found["wer"]["deletions"]) == (0.5, 20)
    assert found["lost"] == {"symbols": {"2": "▁THE"}, "tokens": 20, "of": 40, "rate": 0.5}
    far, lost = judgement.warnings("fp32", found)
    assert "fp32 is far worse than PyTorch: its word error rate is 50.00%, PyTorch's 0.00%" in far
    assert "never emits token 2 ('▁THE'). 20 of the 40 tokens" in lost and "50.00%" in lost


@pytest.mark.parametrize(
    ("wrong", "pytorch_wrong", "grade", "warned"),
    [
        (0, 0, "same", False),
        (1, 0, "same", False),  # may be chance
        (8, 0, "above", False),  # 1 point, and more than chance
        (40, 0, "far", True),  # 5 points
        (156, 4, "far", True),
        (4, 156, "same", False),  # better
    ],
)
def test_how_far_a_precision_is_from_pytorch(
    wrong: int, pytorch_wrong: int, grade: str, warned: bool
) -> None:
    """Of 200 utterances of four words each, some have one that is wrong."""
    said = ["A B C D"] * 200
    mine, theirs = (["A B C X"] * n + said[n:] for n in (wrong, pytorch_wrong))
    found = scoring.score(utterances(*said), heard(*theirs), heard(*mine))
    assert judgement.grade(found) == grade
    assert bool(list(judgement.warnings("int8", found))) == warned


def test_a_useless_reference_is_warned_of() -> None:
    said, other = ["A B"] * 9, ["X Y"] * 9
    found = scoring.score(utterances(*said), heard(*other), heard(*other))
    (warning,) = judgement.warnings("fp32", found)
    assert "PyTorch itself has a word error rate of 100.00%" in warning
