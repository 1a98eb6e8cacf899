"""Measure the calibration recordings: how long each is, and its hash."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors
from transducer2ncnn.quantization import sharing
from transducer2ncnn.speech import audio
from transducer2ncnn.workflow import provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", required=True, type=Path, help="a path a line")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    wavs = args.recordings.read_text(encoding="utf-8").splitlines()
    durations = {wav: audio.duration(wav) for wav in wavs}
    hashes = {wav: provenance.fingerprint(wav)["sha256"] for wav in wavs}
    sharing.write_recordings(args.output, durations, hashes)
    print(f"{len(wavs)} recordings, {sum(durations.values()):.0f} s of audio")


if __name__ == "__main__":
    errors.run(main)
