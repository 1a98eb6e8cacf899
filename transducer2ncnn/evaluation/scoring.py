"""How right a system is, how sure that is, and where it parts from PyTorch.

Texts are compared by a unit (``units``): "words" below are whatever that is. Intervals hold
95 % of what resampled sets of utterances give, RESAMPLES sets drawn with replacement. Two systems
are compared on the same sets: utterances that are hard for both then do not blur the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jiwer
import numpy as np
from rapidfuzz.distance import Levenshtein

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.evaluation import units
from transducer2ncnn.evaluation.heard import Heard
from transducer2ncnn.evaluation.units import Normalisation, Unit
from transducer2ncnn.formats import byte_tokens, vocabulary
from transducer2ncnn.formats.byte_tokens import ByteTokens
from transducer2ncnn.speech.recordings import Utterance

RESAMPLES = 10_000
#: Percentiles that an interval lies between.
INTERVAL = (2.5, 97.5)
#: Drawn numbers that are in memory at once.
DRAWN_AT_ONCE = 1_000_000
#: Differences that are listed.
LISTED = 20


@dataclass(frozen=True)
class Rules:
    """How texts are compared."""

    unit: Unit = "word"
    normalisation: Normalisation = units.USUAL
    #: How the model's tokens spell bytes; None if they spell text.
    spelled: ByteTokens | None = None
    #: Symbols that sherpa-ncnn never emits though they stand for text, by id.
    lost: Mapping[int, str] = field(default_factory=dict)

    def text(self, heard: Heard) -> str:
        """What a system recognised, as text: tokens that spell bytes are decoded."""
        return self.spelled.text(heard.tokens) if self.spelled else heard.text


WORDS = Rules()


def rules_for(
    utterances: Iterable[Utterance],
    symbols: Sequence[str],
    unit: Unit | None = None,
    normalisation: Normalisation = units.USUAL,
) -> Rules:
    """The rules for a model and a language.

    Args:
        symbols: of the model's tokens, by id.
        unit: None for the one that the script of what was said asks for.
    """
    unit = unit or units.find(normalisation.apply(u.text) for u in utterances)
    return Rules(unit, normalisation, byte_tokens.find(symbols), vocabulary.lost(symbols))


@dataclass(frozen=True)
class WordErrors:
    """Counts by utterance: (n,) int each."""

    words: np.ndarray
    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        return self.substitutions + self.deletions + self.insertions


def word_errors(
    references: Sequence[str], texts: Sequence[str], rules: Rules = WORDS
) -> WordErrors:
    """Texts against what was said.

    Raises:
        UserError: nothing was said.
    """

    def prepared(text: str) -> str:
        return " ".join(units.split(rules.normalisation.apply(text), rules.unit))

    found = jiwer.process_words(
        [prepared(text) for text in references], [prepared(text) for text in texts]
    )
    counts: dict[str, list[int]] = {kind: [] for kind in ("substitute", "delete", "insert")}
    for alignment in found.alignments:
        for kind, by_utterance in counts.items():
            by_utterance.append(sum(_length(chunk) for chunk in alignment if chunk.type == kind))
    words = [len(reference) for reference in found.references]
    if not sum(words):
        raise UserError("nothing is left of any transcript once it is normalised.")
    return WordErrors(*(np.array(column) for column in (words, *counts.values())))


def _length(chunk: jiwer.AlignmentChunk) -> int:
    # An insertion takes no word of the reference, a deletion none of the text.
    return max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)


def interval(numerators: np.ndarray, denominators: np.ndarray) -> tuple[float, float]:
    """Where Σ numerators / Σ denominators lies, by bootstrap over utterances.

    Args:
        numerators, denominators: (n,), a pair an utterance. For a paired difference of two
            systems, the numerators are the differences.
    """
    rng = np.random.default_rng(0)
    n = len(numerators)
    at_once = max(1, DRAWN_AT_ONCE // n)
    ratios = []
    for first in range(0, RESAMPLES, at_once):
        drawn = rng.integers(n, size=(min(at_once, RESAMPLES - first), n))
        ratios.append(numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(ratios), INTERVAL)
    return float(low), float(high)


def score(
    utterances: list[Utterance],
    pytorch: dict[str, Heard],
    heard: dict[str, Heard],
    rules: Rules = WORDS,
) -> dict[str, Any]:
    """One precision against what was said and against PyTorch.

    Args:
        utterances: in the manifest's order.
        pytorch, heard: by the utterances' ids.

    Returns:
        Rates are fractions. "wer", "cer" and "ser", the error rates by the "unit", by character
        and by sentence, with "low" and "high" around them; the same of "pytorch"; "rise", by how
        much "wer" is above PyTorch's, and whether zero lies outside its interval ("significant");
        "agreement" with PyTorch, token by token; what of PyTorch's tokens sherpa-ncnn has "lost";
        and the largest "differences" from it.

    Raises:
        UserError: nothing was said.
    """
    mine, theirs = (_errors(utterances, x, rules) for x in (heard, pytorch))
    agreement, token_edits = _agreement(utterances, pytorch, heard)
    return {
        "utterances": len(utterances),
        "words": int(mine.words.sum()),
        "seconds": sum(u.duration for u in utterances),
        "unit": rules.unit,
        "normalised": asdict(rules.normalisation),
        "decoded_bytes": rules.spelled.name if rules.spelled else None,
        **_rates(utterances, heard, mine, rules),
        "pytorch": _rates(utterances, pytorch, theirs, rules),
        "rise": _difference("rate", theirs, mine),
        "agreement": agreement,
        "lost": _lost(pytorch, rules),
        "differences": _differences(utterances, pytorch, heard, theirs, mine, token_edits, rules),
    }


def compare(
    utterances: list[Utterance], systems: dict[str, dict[str, Heard]], rules: Rules = WORDS
) -> list[dict[str, Any]]:
    """Every two systems: b's error rate minus a's, with its interval."""
    errors = {name: _errors(utterances, heard, rules) for name, heard in systems.items()}
    names = list(systems)
    return [
        {"a": a, "b": b} | _difference("difference", errors[a], errors[b])
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]


def _errors(utterances: list[Utterance], heard: dict[str, Heard], rules: Rules) -> WordErrors:
    texts = [rules.text(heard[u.id]) for u in utterances]
    return word_errors([u.text for u in utterances], texts, rules)


def _rates(
    utterances: list[Utterance], heard: dict[str, Heard], found: WordErrors, rules: Rules
) -> dict[str, Any]:
    by_character = _errors(utterances, heard, replace(rules, unit="character"))
    rates = {"wer": word_error_rate(found), "cer": word_error_rate(by_character)}
    return rates | {"ser": _ser(found)}


def _lost(pytorch: dict[str, Heard], rules: Rules) -> dict[str, Any] | None:
    """How many of PyTorch's tokens are such as sherpa-ncnn never emits; None if it emits all."""
    if not rules.lost:
        return None
    found = [token for heard in pytorch.values() for token in heard.tokens]
    gone = sum(token in rules.lost.values() for token in found)
    return {
        "symbols": {str(id_): symbol for id_, symbol in rules.lost.items()},
        "tokens": gone,
        "of": len(found),
        "rate": gone / len(found) if found else 0.0,
    }


def word_error_rate(found: WordErrors) -> dict[str, Any]:
    """The rate over all utterances, as a fraction, its interval and what it consists of, whatever
    unit the counts are of."""
    low, high = interval(found.errors, found.words)
    return {
        "rate": float(found.errors.sum() / found.words.sum()),
        "low": low,
        "high": high,
        "substitutions": int(found.substitutions.sum()),
        "deletions": int(found.deletions.sum()),
        "insertions": int(found.insertions.sum()),
    }


def _ser(found: WordErrors) -> dict[str, Any]:
    wrong = found.errors > 0
    low, high = interval(wrong, np.ones(len(wrong)))
    return {"rate": float(wrong.mean()), "low": low, "high": high, "wrong": int(wrong.sum())}


def _difference(name: str, a: WordErrors, b: WordErrors) -> dict[str, Any]:
    """By how much b's word error rate is above a's."""
    more = b.errors - a.errors
    low, high = interval(more, a.words)
    return {
        name: float(more.sum() / a.words.sum()),
        "low": low,
        "high": high,
        "significant": low > 0 or high < 0,
    }


def _agreement(
    utterances: list[Utterance], pytorch: dict[str, Heard], heard: dict[str, Heard]
) -> tuple[dict[str, Any], list[int]]:
    """Over the tokens of both, aligned; and the edits between them by utterance."""
    edits, tokens, same = [], 0, 0
    for u in utterances:
        opcodes = Levenshtein.opcodes(pytorch[u.id].tokens, heard[u.id].tokens)
        equal = sum(op.src_end - op.src_start for op in opcodes if op.tag == "equal")
        edits.append(Levenshtein.distance(pytorch[u.id].tokens, heard[u.id].tokens))
        same += equal
        tokens += equal + edits[-1]
    agreement = {
        "tokens": tokens,
        "same": same,
        "rate": same / tokens if tokens else 1.0,
        "utterances": len(utterances),
        "identical": edits.count(0),
    }
    return agreement, edits


def _differences(
    utterances: list[Utterance],
    pytorch: dict[str, Heard],
    heard: dict[str, Heard],
    pytorch_errors: WordErrors,
    errors: WordErrors,
    token_edits: list[int],
    rules: Rules,
) -> list[dict[str, Any]]:
    """What changes most words first, then what changes most tokens."""
    rows: list[dict[str, Any]] = [
        {
            "id": u.id,
            "wav": u.wav,
            "start": u.start,
            "reference": u.text,
            "pytorch": rules.text(pytorch[u.id]),
            "sherpa_ncnn": rules.text(heard[u.id]),
            "errors": int(errors.errors[i]),
            "pytorch_errors": int(pytorch_errors.errors[i]),
            "token_edits": token_edits[i],
        }
        for i, u in enumerate(utterances)
        if token_edits[i]
    ]
    rows.sort(key=lambda r: (-abs(r["errors"] - r["pytorch_errors"]), -r["token_edits"]))
    return rows[:LISTED]
