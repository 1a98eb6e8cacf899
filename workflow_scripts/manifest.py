"""Write down what was delivered, out of what, and by what."""

import argparse
import json
from pathlib import Path

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.formats import tokens, vocabulary
from transducer2ncnn.report.artifacts import by_precision
from transducer2ncnn.workflow import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, type=Path, help="source.json")
    parser.add_argument("--description", required=True, type=Path, help="model.json")
    parser.add_argument("--tokens", required=True, help="tokens.txt")
    parser.add_argument("--verification", required=True, nargs="+", help="<precision>.json")
    parser.add_argument("--evaluation", nargs="+", default=[], help="<precision>.json")
    parser.add_argument("--max-rise", required=True, type=json.loads, help="points by precision")
    parser.add_argument("--records", required=True, nargs="+", help="of what was delivered")
    parser.add_argument("--config", required=True, type=json.loads)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()

    source, description = (reading.read_json(p) for p in (args.source, args.description))
    verification, evaluation = map(by_precision, (args.verification, args.evaluation))
    symbols = tokens.read(args.tokens, description["sizes"]["vocab_size"])
    found = [*verification.values(), *evaluation.values()]
    folder = args.output.parent
    delivered = provenance.recorded(args.records)
    provenance.check_delivered(folder, delivered)
    made = provenance.make(
        source,
        description,
        delivered,
        folder.name,
        args.config,
        provenance.gates(verification, evaluation, args.max_rise),
        list(
            dict.fromkeys(
                [*vocabulary.warnings(symbols), *(w for x in found for w in x.get("warnings", []))]
            )
        ),
    )
    files.write_json(args.output, made)


if __name__ == "__main__":
    errors.run(main)
