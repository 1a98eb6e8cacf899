"""``bpe.model`` and ``tokens.txt``: every digit word is one token."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
from synthesize import WORDS

#: Three special pieces, ▁ and the 15 letters, the ten words.
VOCAB_SIZE = 29


def make(out: Path) -> list[int]:
    """Writes both files into ``out``; returns the token of every digit."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        lines = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(5000)]
        text.write_text("\n".join(lines) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_type="unigram",
            model_prefix=str(out / "bpe"),
            vocab_size=VOCAB_SIZE,
            user_defined_symbols=["<blk>", "<sos/eos>"],  # ids 0 and 1
            unk_id=2,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            character_coverage=1.0,
            minloglevel=2,
        )
    (out / "bpe.vocab").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    size = pieces.get_piece_size()
    (out / "tokens.txt").write_text("".join(f"{pieces.id_to_piece(i)} {i}\n" for i in range(size)))
    tokens = []
    for word in WORDS:
        ids = pieces.encode(word)
        if len(ids) != 1:
            raise RuntimeError(f"{word} is not one token: {pieces.encode(word, out_type=str)}")
        tokens += ids
    return tokens
