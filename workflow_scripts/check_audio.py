"""Check all recordings of a model at once, before any work is done on it."""

import argparse
from collections.abc import Iterator

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.speech import audio, manifests, recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="its name")
    parser.add_argument("--wavs", nargs="+", default=[])
    parser.add_argument("--listed", help="a list of further ones, a path a line")
    parser.add_argument("--transcripts", help="a table of what is said in them")
    parser.add_argument("--manifest", help="a TSV, lhotse cuts or a Kaldi folder")
    parser.add_argument("--root", help="where the manifest's corpus is")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    wavs = args.wavs
    if args.listed:
        wavs += reading.read_text(args.listed, "a list of recordings").splitlines()
    wrong = list(problems(wavs, args.transcripts))
    utterances: list[recordings.Utterance] = []
    if args.manifest:
        try:
            utterances, found = recordings.examine(args.manifest, args.root)
            wrong += [f"{args.manifest}, {line}" for line in found]
        except errors.UserError as e:
            wrong.append(str(e).rstrip("."))
    if wrong:
        raise errors.UserError(recordings.listed(f"the recordings of {args.model}", wrong))
    counts = {"wavs": len(wavs), "evaluation": len(utterances)}
    files.write_json(args.output, counts)
    print(f"{args.model}: {len(wavs) + len(utterances)} recordings, nothing wrong")


def problems(wavs: list[str], transcripts: str | None) -> Iterator[str]:
    """What is wrong with recordings, or with the table of what is said in them."""
    for wav in wavs:
        try:
            audio.check(wav)
        except errors.UserError as e:
            yield str(e).rstrip(".")
    try:
        if transcripts:
            manifests.read_table(transcripts)
    except errors.UserError as e:
        yield str(e).rstrip(".")


if __name__ == "__main__":
    errors.run(main)
