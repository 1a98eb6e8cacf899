"""The section ``evaluation``: how models are evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from transducer2ncnn.workflow.models import File
from transducer2ncnn.workflow.section import Section


class Normalise(Section):
    """What makes no difference between what was said and what was recognised."""

    case: bool = Field(True, description="whether upper and lower case make no difference")
    punctuation: bool = Field(
        False,
        description="whether punctuation makes none, but for an apostrophe inside a word",
    )
    full_width: bool = Field(
        True, description="whether full-width and half-width forms of a character are the same"
    )


class Evaluation(Section):
    """How the models that have an `evaluation` are evaluated."""

    decoding: Literal["greedy_search", "modified_beam_search"] = Field(
        "greedy_search", description="how sherpa-ncnn and PyTorch search"
    )
    num_active_paths: int = Field(4, ge=1, description="paths that the beam search follows")
    hotwords_file: File | None = Field(
        None,
        description="phrases that the beam search prefers, one a line, each as the tokens of "
        "tokens.txt that it consists of, separated by blanks",
    )
    hotwords_score: float = Field(
        1.5, gt=0, description="what a path gains by each token of such a phrase"
    )
    unit: Literal["word", "character", "mixed"] | None = Field(
        None,
        description="what the error rate counts: words, characters, or `mixed`, a character of a "
        "script without spaces or else a word. If left out, `mixed` where a transcript has such a "
        "character, as in Chinese, Japanese, Korean or Thai, and `word` elsewhere",
    )
    normalise: Normalise = Field(
        Normalise(), description="what makes no difference between two texts"
    )
    shards: int | None = Field(
        None,
        ge=1,
        description="jobs that each system's decoding is spread over; the figures are the same. "
        "By default 2, and 1 for less than a minute of audio",
    )
    rounds: int = Field(3, ge=1, description="rounds of the speed measurement")
    max_rise: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="by precision, how many percentage points its error rate may be above "
        "PyTorch's for it to be delivered",
    )
