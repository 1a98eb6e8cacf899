"""Make the report of a model out of its artifacts."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.report import artifacts, page
from transducer2ncnn.report.artifacts import Artifacts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="its name")
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--rules", required=True, help="rules.json")
    parser.add_argument("--verification", required=True, nargs="+", help="<precision>.json")
    parser.add_argument("--manifest", help="manifest.json")
    parser.add_argument("--headroom", help="headroom.json")
    parser.add_argument("--targets", nargs="+", default=[], help="target-<cpu>.json")
    parser.add_argument("--quantization", nargs="+", default=[], help="<precision>.json")
    parser.add_argument("--searches", nargs="+", default=[], help="<precision>.json")
    parser.add_argument("--evaluation", nargs="+", default=[], help="<precision>.json")
    parser.add_argument("--comparison", help="comparison.json")
    parser.add_argument("--speed", help="speed.json")
    parser.add_argument("--recordings", help="manifest.jsonl of the evaluation")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    optional = {
        name: reading.read_json(getattr(args, name)) if getattr(args, name) else None
        for name in ("manifest", "headroom", "comparison", "speed")
    }
    found = Artifacts(
        model=args.model,
        description=reading.read_json(args.description),
        rule_graph=artifacts.read_rule_graph(args.rules),
        verification=artifacts.by_precision(args.verification),
        quantization=artifacts.by_precision(args.quantization),
        searches=artifacts.by_precision(args.searches),
        targets=artifacts.by_processor(args.targets),
        evaluation=artifacts.by_precision(args.evaluation),
        recordings=artifacts.read_recordings(args.recordings) if args.recordings else {},
        **optional,
    )
    files.write_text(args.output, page.render(found, Path(args.output).parent))
    print(f"{args.output}: {Path(args.output).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    errors.run(main)
