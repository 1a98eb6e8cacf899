"""Hotwords: phrases that beam search prefers, with the scores that sherpa-ncnn gives them.

A path that takes a phrase's next token gains a score, and loses what it gained when the phrase
breaks off. With the phrase's last token it keeps that, and the next phrase begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transducer2ncnn.base.errors import UserError, shown
from transducer2ncnn.base.reading import read_text
from transducer2ncnn.formats.tokens import WORD_START


@dataclass(frozen=True)
class Hotwords:
    """Phrases as symbols of tokens.txt and as their ids, and what each token of one gains."""

    phrases: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...]
    score: float

    def text(self) -> str:
        """The file that sherpa-ncnn reads."""
        return "".join(" ".join(phrase) + "\n" for phrase in self.phrases)


def read(path: str | Path, symbols: Sequence[str], score: float) -> Hotwords:
    """The phrases of a file, one a line: symbols of tokens.txt, separated by blanks.

    Raises:
        UserError: the file is missing, holds no phrase, or one that sherpa-ncnn cannot look for.
    """
    known = {symbol: id_ for id_, symbol in enumerate(symbols)}
    phrases = []
    for number, line in enumerate(read_text(path, "a list of hotwords").splitlines(), start=1):
        where, phrase = f"{path}, line {number}", tuple(line.split())
        for symbol in phrase:
            if symbol.startswith(WORD_START):
                raise UserError(
                    f"{where}: sherpa-ncnn cannot look for {shown(symbol)!r}: it reads the "
                    f"{WORD_START} of a token as a blank, and finds no hotword with it. Expected "
                    "tokens without, as models of characters have."
                )
            if symbol not in known and symbol.startswith(":"):
                raise UserError(
                    f"{where}: found the score {shown(symbol)!r}, which sherpa-ncnn ignores. State "
                    "one score for all phrases in evaluation.hotwords_score."
                )
            if symbol not in known:
                raise UserError(
                    f"{where}: {shown(symbol)!r} is no token of the model. Expected a phrase's "
                    "tokens, as in tokens.txt, separated by blanks."
                )
        if phrase:
            phrases.append(phrase)
    if not phrases:
        raise UserError(f"{path}: holds no hotwords. Expected a phrase a line.")
    ids = tuple(tuple(known[symbol] for symbol in phrase) for phrase in phrases)
    return Hotwords(tuple(phrases), ids, score)


@dataclass(eq=False)
class State:
    """How far a path is in the phrases."""

    #: What the path gained on the way here.
    gained: float = 0.0
    #: Of that, what the longest phrase that ends here has gained; None if none ends here.
    kept: float | None = None
    following: dict[int, State] = field(default_factory=dict)
    #: The state of the longest end of the path that begins a phrase too.
    shorter: State | None = None


class Graph:
    """The phrases as states: an Aho-Corasick automaton, scored as sherpa-ncnn does."""

    def __init__(self, phrases: Iterable[Sequence[int]], score: float) -> None:
        self.root = State()
        for phrase in phrases:
            state = self.root
            for token in phrase:
                if token not in state.following:
                    state.following[token] = State(state.gained + score)
                state = state.following[token]
            state.kept = state.gained
        self._link()

    def _link(self) -> None:
        waiting = deque([self.root])
        while waiting:
            state = waiting.popleft()
            for token, following in state.following.items():
                shorter = state.shorter
                while shorter and token not in shorter.following:
                    shorter = shorter.shorter
                following.shorter = shorter.following[token] if shorter else self.root
                if following.kept is None:
                    following.kept = following.shorter.kept
                waiting.append(following)

    def step(self, state: State, token: int) -> tuple[float, State]:
        """What a path gains by a token, and the state that it is in then."""
        found: State | None = state
        while found and token not in found.following:
            found = found.shorter
        reached = found.following[token] if found else self.root
        if reached.kept is not None:
            return reached.kept - state.gained, self.root
        return reached.gained - state.gained, reached
