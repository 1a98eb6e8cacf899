"""Search the cheapest formats of all layers that lose no more than a budget."""

import argparse
import json
from pathlib import Path

import numpy as np

from transducer2ncnn.base import errors, files, isolated, reading
from transducer2ncnn.base.shards import spread
from transducer2ncnn.evaluation import automatic, curve
from transducer2ncnn.families.registry import described
from transducer2ncnn.formats import tokens
from transducer2ncnn.quantization import gate, groups, sensitivity, timing
from transducer2ncnn.speech import audio, recordings
from transducer2ncnn.speech.features import SAMPLE_RATE
from workflow_scripts import scoring_arguments
from workflow_scripts.arguments import add_keep, add_ncnn_files, ncnn_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", required=True, help="its name, for messages")
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    add_keep(parser)
    parser.add_argument("--tokens", required=True, help="tokens.txt")
    parser.add_argument("--sensitivity", required=True, nargs="+", help="all shards")
    parser.add_argument("--times", help="seconds of each format, if these are to be few")
    parser.add_argument("--manifest", help="the recordings of the evaluation, checked")
    parser.add_argument("--wavs", nargs="*", default=[], help="recordings, where there is none")
    parser.add_argument("--seconds", required=True, type=int, help="of recordings, at most")
    parser.add_argument(
        "--budget", required=True, type=json.loads, help="JSON: that of evaluation.automatic.Budget"
    )
    parser.add_argument(
        "--limits", required=True, type=json.loads, help="JSON: those of quantization.gate.Limits"
    )
    scoring_arguments.add_rules(parser)
    parser.add_argument("--output", required=True, type=Path, help="<precision>.json")
    parser.add_argument("--table", required=True, type=Path, help="the curve, as a TSV")
    parser.add_argument("--configuration", required=True, type=Path, help="the recipe, as YAML")
    args = parser.parse_args()

    fp32, description = ncnn_files(args), reading.read_json(args.description)
    found = groups.find(fp32, description, args.keep)
    lost = sensitivity.errors(args.sensitivity, found)
    times = timing.of_groups(reading.read_json(args.times), found) if args.times else None
    points = automatic.points(found, lost, times or [group.sizes for group in found])
    symbols = tokens.read(args.tokens, described(description).sizes.vocab_size)
    utterances = recordings.read_checked(args.manifest) if args.manifest else []
    heard, said = listen(args.manifest, args.wavs, args.seconds)
    task = automatic.Task(
        precision=args.precision,
        fp32=fp32,
        description=description,
        recordings=heard,
        said=said,
        symbols=symbols,
        rules=scoring_arguments.rules_for(args, utterances, symbols),
        budget=automatic.Budget(**args.budget),
        limits=gate.Limits(**args.limits),
    )
    try:
        chosen, measured = isolated.call(automatic.search, task, found, points)
    except isolated.IsolatedError as e:
        raise errors.UserError(f"ncnn cannot run the files of a point: {e}") from None
    result = {
        "budget": args.budget,
        "minimise": "time" if args.times else "size",
    } | curve.describe(fp32, found, points, times, chosen, measured)
    files.write_text(args.table, curve.table(result))
    files.write_text(args.configuration, curve.configuration(args.precision, result))
    files.write_json(args.output, result)
    point = result["points"][chosen]
    print(
        f"{args.precision}: point {chosen + 1} of {len(points)}, {point['bytes'] / 2**20:.2f} MiB; "
        f"{measured[chosen]['differing_frames']} of {measured[chosen]['emitting_frames']} frames "
        "in which one emits a token differ from fp32"
    )


def listen(
    manifest: str | None, wavs: list[str], seconds: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Recordings by name, and what is said in them where that is known; of many, some from the
    whole length."""
    if manifest is None:
        heard = {wav: audio.read(wav) for wav in wavs}
        lengths = {wav: len(samples) / SAMPLE_RATE for wav, samples in heard.items()}
        return {wav: heard[wav] for wav in spread(lengths, seconds)}, {}
    utterances = {u.id: u for u in recordings.read_checked(manifest)}
    chosen = spread({id_: u.duration for id_, u in utterances.items()}, seconds)
    return (
        {id_: recordings.read(utterances[id_]) for id_ in chosen},
        {id_: utterances[id_].text for id_ in chosen},
    )


if __name__ == "__main__":
    errors.run(main)
