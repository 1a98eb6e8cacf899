"""Word error rate of exported folders, through the real sherpa-ncnn.

    python -m benchmarks.word_error_rate --wavs <folder> results/digits/sherpa-ncnn/*

The folder holds wavs and transcripts.tsv, such as models/digits/test_wavs or what
models/digits/training/test_set.py writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jiwer

from transducer2ncnn import audio, transcription


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wavs", required=True, type=Path)
    parser.add_argument("exported", nargs="+", type=Path, help="folders that sherpa-ncnn runs")
    args = parser.parse_args()

    references = transcription.read_references(args.wavs / "transcripts.tsv")
    recordings = {name: audio.read(args.wavs / name) for name in references}
    for folder in args.exported:
        texts = transcription.sherpa_texts(folder, recordings, threads=1)
        found = jiwer.process_words(list(references.values()), texts)
        words = found.hits + found.substitutions + found.deletions
        print(
            f"{folder}: {100 * found.wer:.2f} % of {words} words in {len(texts)} recordings "
            f"({found.substitutions} substituted, {found.deletions} deleted, "
            f"{found.insertions} inserted)"
        )


if __name__ == "__main__":
    main()
