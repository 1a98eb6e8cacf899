"""Make a model card of what was stated and measured."""

import argparse

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.release import card, contents
from transducer2ncnn.report import artifacts
from workflow_scripts.release_arguments import add_contents, add_release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_release(parser)
    add_contents(parser)
    parser.add_argument("--speed", help="speed.json")
    parser.add_argument(
        "--transcripts", nargs="+", default=[], help="<precision>.tsv, in the precisions' order"
    )
    parser.add_argument("--template", default=card.TEMPLATE)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    made = card.Model(
        title=args.title,
        stated=args.stated,
        precisions=args.precisions,
        manifest=reading.read_json(args.manifest),
        headroom=reading.read_json(args.headroom),
        verification=artifacts.by_precision(args.verification),
        evaluation=artifacts.by_precision(args.evaluation),
        targets=artifacts.by_processor(args.targets),
        speed=reading.read_json(args.speed) if args.speed else None,
        wavs=[*contents.wavs(args.wavs).values()],
        texts={
            precision: transcription.read_texts(path)
            for precision, path in zip(args.precisions, args.transcripts, strict=False)
        },
    )
    files.write_text(args.output, card.render(made, args.template))


if __name__ == "__main__":
    errors.run(main)
