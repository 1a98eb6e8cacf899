"""Transcribe recordings with an exported model, by sherpa-ncnn and by plain ncnn."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.engines import search
from transducer2ncnn.engines.runtime import NcnnTransducer
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import tokens
from transducer2ncnn.speech import audio
from workflow_scripts.arguments import add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sherpa", required=True, help="folder that sherpa-ncnn runs")
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--wavs", required=True, nargs="+")
    parser.add_argument("--references", help="table of what is said in the wavs")
    parser.add_argument("--threads", required=True, type=int)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    recordings = {wav: audio.read(wav) for wav in args.wavs}
    references = transcription.read_references(args.references)
    architecture = described(reading.read_json(args.description))
    by_sherpa = transcription.sherpa_texts(
        args.sherpa, recordings, args.threads, architecture.tail_seconds
    )

    transducer = NcnnTransducer(ncnn_files(args), architecture, args.threads)
    symbols = tokens.read(Path(args.sherpa, "tokens.txt"), architecture.sizes.vocab_size)
    by_ncnn = [tokens.to_text(search.decode(transducer, x), symbols) for x in recordings.values()]

    transcripts = [
        transcription.Transcript(wav, references.get(Path(wav).name, ""), a, b)
        for wav, a, b in zip(recordings, by_sherpa, by_ncnn, strict=True)
    ]
    transcription.write(args.output, transcripts)
    for t in transcripts:
        if not t.agree:
            print(f"{t.wav}: sherpa-ncnn recognises {t.sherpa_ncnn!r}, plain ncnn {t.ncnn!r}")
    differ = sum(not t.agree for t in transcripts)
    verdict = f"DIFFER in {differ}, see {args.output}" if differ else "agree in all"
    print(f"{args.sherpa}: {len(transcripts)} recordings; sherpa-ncnn and plain ncnn {verdict}")


if __name__ == "__main__":
    errors.run(main)
