"""Make the archive of a release out of delivered files and their model card."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.release import archive, contents
from transducer2ncnn.workflow import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precisions", required=True, nargs="+", help="those that are released")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json")
    parser.add_argument("--card", required=True, help="README.md")
    parser.add_argument("--bpe-model", help="its sentencepiece model")
    parser.add_argument("--wavs", nargs="*", default=[], help="test recordings")
    parser.add_argument("--references", help="table of what is said in them")
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    manifest = reading.read_json(args.manifest)
    results = args.manifest.parent
    models = contents.together(manifest, args.precisions)
    stated = {path: manifest["delivered"][path] for path in models.values()}
    provenance.check_delivered(results, stated)
    held: dict[str, str | Path] = {name: results / path for name, path in models.items()}
    held[contents.CARD] = args.card
    if args.bpe_model:
        held[contents.BPE] = args.bpe_model
    recordings = contents.wavs(args.wavs)
    held |= {wav.name: path for path, wav in recordings.items()}
    said = contents.transcripts(recordings, transcription.read_references(args.references))
    archive.write(args.output, held, {contents.TRANSCRIPTS: said} if said else {})
    print(f"{args.output}: {args.output.stat().st_size / 1e6:,.1f} MB, {len(held)} files")


if __name__ == "__main__":
    errors.run(main)
