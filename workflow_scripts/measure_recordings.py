"""Measure the calibration recordings: how long and how loud each is, and its hash."""

import argparse
from pathlib import Path

from transducer2ncnn.base import errors, reading
from transducer2ncnn.base.fingerprints import fingerprint
from transducer2ncnn.quantization import levels, sharing
from transducer2ncnn.speech import audio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", required=True, type=Path, help="a path a line")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()

    wavs = reading.read_text(args.recordings, "a list of recordings").splitlines()
    measured = {
        wav: sharing.Measured(
            audio.duration(wav),
            levels.decibels(audio.mean_square(wav)),
            fingerprint(wav)["sha256"],
        )
        for wav in wavs
    }
    sharing.write_recordings(args.output, measured)
    for warning in levels.silent(measured):
        print(f"warning: {warning}")
    seconds, level = sum(x.seconds for x in measured.values()), levels.overall(measured.values())
    print(f"{len(wavs)} recordings, {seconds:.0f} s of audio at {levels.shown(level)}")


if __name__ == "__main__":
    errors.run(main)
