"""Word error rate of exported folders, through the real sherpa-ncnn.

    python -m benchmarks.word_error_rate --manifest <manifest> results/digits/sherpa-ncnn/*

The manifest is what a model's `evaluation` may be, such as models/digits/test_wavs/transcripts.tsv
or the transcripts.tsv that models/digits/training/test_set.py writes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from transducer2ncnn.evaluation import scoring, transcription
from transducer2ncnn.families import registry
from transducer2ncnn.speech import recordings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("exported", nargs="+", type=Path, help="folders that sherpa-ncnn runs")
    args = parser.parse_args()

    utterances = recordings.check(args.manifest)
    samples = {u.id: recordings.read(u) for u in utterances}
    for folder in args.exported:
        # results/<model>/sherpa-ncnn/<precision>, and what the model is beside that.
        described = json.loads((folder.parent.parent / "model.json").read_text())
        tail = registry.described(described).tail_seconds
        texts = transcription.sherpa_texts(folder, samples, threads=1, tail_seconds=tail)
        found = scoring.word_error_rate(scoring.word_errors([u.text for u in utterances], texts))
        print(
            f"{folder}: {found['rate']:.2%} ({found['low']:.2%} to {found['high']:.2%}) of the "
            f"words in {len(texts)} recordings ({found['substitutions']} substituted, "
            f"{found['deletions']} deleted, {found['insertions']} inserted)"
        )


if __name__ == "__main__":
    main()
