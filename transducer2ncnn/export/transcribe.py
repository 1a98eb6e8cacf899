"""Transcribe recordings with the model in this folder, by sherpa-ncnn.

python transcribe.py RECORDING [RECORDING ...]

It needs `pip install sherpa-ncnn soundfile`. Any format that soundfile reads will do, at any rate
and with any number of channels. Each line that is printed is a recording and its text.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: Silence behind a recording, so that the last segment of speech is full whatever the model.
TAIL_SECONDS = 3


def main(paths: list[str]) -> None:
    if not paths or paths[0] in ("-h", "--help"):
        sys.exit(__doc__)
    if missing := [path for path in paths if not Path(path).is_file()]:
        sys.exit(f"error: there is no recording {', '.join(missing)}")
    try:
        import numpy as np
        import sherpa_ncnn
        import soundfile
    except ImportError as e:
        sys.exit(f"error: {e.name} is missing: pip install sherpa-ncnn soundfile")

    folder = Path(__file__).resolve().parent
    files = {
        f"{part}_{kind}": str(next(folder.glob(f"{part}*.{kind}")))
        for part in ("encoder", "decoder", "joiner")
        for kind in ("param", "bin")
    }
    recognizer = sherpa_ncnn.Recognizer(tokens=str(folder / "tokens.txt"), **files)
    for path in paths:
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, TypeError) as e:
            sys.exit(f"error: {path} cannot be read as audio: {e}")
        recognizer.stream = recognizer.recognizer.create_stream()
        # sherpa-ncnn resamples what comes at another rate than its own.
        recognizer.accept_waveform(rate, samples.mean(axis=1))
        recognizer.accept_waveform(rate, np.zeros(TAIL_SECONDS * rate, dtype=np.float32))
        recognizer.input_finished()
        try:
            text = recognizer.text.strip()
        except IndexError:
            sys.exit(f"error: {folder / 'tokens.txt'} lacks a token of the model: copy it again")
        print(f"{path}: {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
