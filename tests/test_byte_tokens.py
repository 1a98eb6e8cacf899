"""Vocabularies whose tokens spell bytes, against the encodings that made them."""

from __future__ import annotations

import pytest

from transducer2ncnn.formats import byte_tokens, tokens, vocabulary

MARKS = ["<blk>", "<sos/eos>", "<unk>"]


def spelled(text: str, kind: str) -> str:
    """A text as the characters that stand for its bytes."""
    found = []
    for byte in text.encode():
        if kind == "icefall":
            # icefall.byte_utils' first and last characters, and ASCII between.
            printable = [*range(256, 288), *range(32, 127), *range(288, 306), *range(308, 319)]
            printable += [*range(321, 329), *range(330, 383), *range(384, 423)]
            found.append(chr(printable[byte]))
        else:
            latin = {*range(33, 127), *range(161, 173), *range(174, 256)}
            others = [b for b in range(256) if b not in latin]
            found.append(chr(byte) if byte in latin else chr(256 + others.index(byte)))
    return "".join(found)


def test_the_tables_are_known_encodings() -> None:
    # What icefall's byte_encode and GPT-2's tokenizer make of it.
    assert spelled("零", "icefall") == "ƐľŜ"
    assert spelled(" é", "gpt2") == "ĠÃ©"


@pytest.mark.parametrize("kind", ["icefall", "gpt2"])
def test_byte_level_tokens_spell_text(kind: str) -> None:
    blank = "▁" if kind == "icefall" else "Ġ"
    seven = spelled("七", kind)
    symbols = [*MARKS, blank + spelled("零", kind), spelled("四", kind), seven[:2], seven[2:], "A"]
    found = byte_tokens.find(symbols)
    assert found is not None and found.name == "byte-level BPE"
    assert found.text(symbols[3:]) == "零四七A"
    assert found.text([symbols[3], symbols[3]]) == "零 零"
    assert found.text([symbols[5], "A"]) == "\ufffdA"


def test_byte_fallback_spells_text() -> None:
    symbols = [*MARKS, "▁A", "<0xE9>", "<0x9B>", "<0xb6>", "▁B"]
    found = byte_tokens.find(symbols)
    assert found is not None and found.name == "byte fallback"
    assert found.text(symbols[3:]) == "A零 B"
    assert tokens.to_text([3, 4], symbols) == "A<0xE9>"  # as sherpa-ncnn prints it


def test_single_letters_are_bytes_where_several_begin_characters() -> None:
    assert byte_tokens.find([*MARKS, *spelled("零七啊四", "icefall")])


@pytest.mark.parametrize(
    "symbols",
    [
        ["▁THE", "A", "'S"],
        ["零", "四", "七"],
        ["▁été", "é", "▁à"],  # French
        list("abcdefghijklmnoprstuvzāčēģīķļņšūž"),  # Latvian, letter by letter
        list("abcdefghijklmnopqrstuvwxyzàâçèéêëîïôùûœ«»°"),  # French
        list("abcdefghijklmnñopqrstuvwxyzáéíóúü¡¿ªº"),  # Spanish
        ["▁aš", "ša", "▁už", "ą"],  # Lithuanian
        ["Ɛ", "Ɔ", "A", "KƐ"],  # Akan
        ["▁<noise>", "<x>", "A"],
    ],
)
def test_letters_are_no_bytes(symbols: list[str]) -> None:
    assert byte_tokens.find([*MARKS, *symbols]) is None


@pytest.mark.parametrize(
    ("second", "lost"),
    [
        *(("<unk>", False), ("<UNK>", False), ("[UNK]", False), ("<sos/eos>", False)),
        *(("▁THE", True), ("零", True), ("<0xE9>", True), ("<", True)),
    ],
)
def test_a_token_at_2_that_is_text_is_lost(second: str, lost: bool) -> None:
    symbols = ["<blk>", "A", second, "B"]
    assert vocabulary.lost(symbols) == ({2: second} if lost else {})
    assert vocabulary.never_emitted(symbols) == ((0,) if lost else (0, 2))
    assert any("never emits" in warning for warning in vocabulary.warnings(symbols)) == lost


def test_a_vocabulary_of_two_loses_nothing() -> None:
    assert vocabulary.lost(["<blk>", "A"]) == {}
