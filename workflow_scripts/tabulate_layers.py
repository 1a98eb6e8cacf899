"""List a model's layers with weights: what `keep` and other keys of a precision can name."""

import argparse

from transducer2ncnn.base import errors, files, reading
from transducer2ncnn.formats import param
from transducer2ncnn.formats.layers import TABLE, WEIGHTED
from transducer2ncnn.quantization import pairing
from workflow_scripts.arguments import add_ncnn_files, ncnn_files

COLUMNS = ("part", "layer", "type", "PyTorch", "weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_ncnn_files(parser)
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    description = reading.read_json(args.description)
    rows = [COLUMNS]
    for part, (file, _) in ncnn_files(args).items():
        graph = param.read(file)
        modules = pairing.modules(graph, description, part)
        for layer in graph.layers:
            if layer.type in WEIGHTED:
                count = sum(block.count for block in TABLE[layer.type].blocks(layer))
                rows.append((part, layer.name, layer.type, modules[layer.name], str(count)))
    files.write_text(args.output, "".join("\t".join(row) + "\n" for row in rows))


if __name__ == "__main__":
    errors.run(main)
