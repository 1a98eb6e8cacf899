"""Check a model's vocabulary, or make it of its sentencepiece model."""

import argparse

from transducer2ncnn.base import errors, reading
from transducer2ncnn.formats import tokens, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", help="tokens.txt")
    parser.add_argument("--bpe_model", help="sentencepiece model")
    parser.add_argument("--description", required=True, help="model.json")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    if not args.tokens and not args.bpe_model:
        parser.error("one of --tokens and --bpe_model is needed")

    vocab_size = reading.read_json(args.description)["sizes"]["vocab_size"]
    symbols = tokens.read(args.tokens, vocab_size) if args.tokens else []
    if args.bpe_model:
        pieces = tokens.from_bpe_model(args.bpe_model, vocab_size)
        if symbols:
            tokens.check_agreement(symbols, pieces, args.tokens, args.bpe_model)
        symbols = pieces
    for warning in vocabulary.warnings(symbols):
        print(f"warning: {warning}")
    tokens.write(args.output, symbols)
    print(f"{args.output}: {vocab_size} tokens")


if __name__ == "__main__":
    errors.run(main)
