"""The page to try models on: in a real browser, with a recording for its microphone."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import browser as real_browser
import numpy as np
import pytest
import soundfile
import soxr
import websocket
from conftest import GOLDEN, ROOT
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from transducer2ncnn.base import files, layout
from transducer2ncnn.base.errors import UserError
from transducer2ncnn.demo import delivered
from transducer2ncnn.demo.engine import Engine
from transducer2ncnn.evaluation import transcription
from transducer2ncnn.export import assembly
from transducer2ncnn.families import model
from transducer2ncnn.speech import audio

DIGITS = ROOT / "models" / "digits"
PRECISIONS = ("fp16", "fp32")
#: Seconds that a session takes at most, models loaded and all.
PATIENCE = 60


def said(wav: str) -> str:
    with open(DIGITS / "test_wavs" / "transcripts.tsv", encoding="utf-8") as f:
        return {row["wav"]: row["text"] for row in csv.DictReader(f, delimiter="\t")}[wav]


@pytest.fixture(scope="module")
def results(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two precisions of the model that ships, and a folder that a run is still making."""
    results = tmp_path_factory.mktemp("results")
    description = model.inspect(DIGITS / "pretrained.pt", "lstm")[1]
    files.write_json(results / "digits" / "model.json", description)
    for precision in PRECISIONS:
        folder = results / "digits" / "sherpa-ncnn" / precision
        networks = layout.ncnn_files(digits / precision)
        assembly.assemble(networks, description, DIGITS / "tokens.txt", folder)
    (results / "digits" / "sherpa-ncnn" / "int8").mkdir()
    return results


@pytest.fixture(scope="module")
def port(results: Path) -> Iterator[int]:
    """The page's server, as `make demo` starts it."""
    command = [sys.executable, "-m", "workflow_scripts.demo", "--port", "0", "--results", results]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"Open http://127\.0\.0\.1:(\d+)/ in a browser .*\n", line)
        assert found, line
        yield int(found[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, -signal.SIGINT, 130)


def test_what_was_delivered_is_there_to_try(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = delivered.models(results)
    assert {name: list(x.folders) for name, x in found.items()} == {"digits": list(PRECISIONS)}
    assert found["digits"].tail_seconds == pytest.approx(0.5)
    # Of another family, whose segments are longer: 39 frames and one more, and 0.3 s.
    golden = GOLDEN / "zipformer" / "pretrained.pt"
    settings = {"decode_chunk_len": 32, "num_left_chunks": 4}
    description = model.inspect(golden, "zipformer", settings)[1]
    files.write_json(tmp_path / "longer" / "model.json", description)
    folder = tmp_path / "longer" / "sherpa-ncnn" / "fp16"
    shutil.copytree(results / "digits" / "sherpa-ncnn" / "fp16", folder)
    assert delivered.models(tmp_path)["longer"].tail_seconds == pytest.approx(0.7)
    shutil.copytree(tmp_path / "longer", tmp_path / "damaged")
    (tmp_path / "damaged" / "model.json").write_text('{"family": "lstm"}')
    assert list(delivered.models(tmp_path)) == ["longer"]
    left_out = f"damaged is left out. {tmp_path / 'damaged' / 'model.json'}: has no key 'sizes'"
    assert left_out in capsys.readouterr().err
    (folder / "tokens.txt").unlink()
    with pytest.raises(UserError, match="no model was delivered there. Export one"):
        delivered.models(tmp_path)


# --- Who is let in -------------------------------------------------------------------------------

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def status(port: int, path: str, **headers: str | None) -> int:
    """What the server answers; a header that is None is left out."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    stated = {"Host": f"127.0.0.1:{port}"} | (UPGRADE if path == "/session" else {}) | headers
    for name, value in stated.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    found = connection.getresponse().status
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/", "/models", "/session"])
def test_only_its_own_page_is_let_in(port: int, path: str) -> None:
    allowed = 101 if path == "/session" else 200
    own = f"http://127.0.0.1:{port}"
    assert status(port, path, Origin=own) == allowed
    assert (
        status(port, path, Host=f"localhost:{port}", Origin=f"http://localhost:{port}") == allowed
    )
    # A name of somebody else's that was made to point here, and pages of others.
    assert status(port, path, Host="evil.example", Origin="http://evil.example") == 400
    assert status(port, path, Host=f"evil.example:{port}", Origin=own) == 400
    assert status(port, path, Host=None, Origin=own) == 400
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"{own}.evil.de"):
        assert status(port, path, Origin=origin) == 403
    # A person who types the address sends no origin; what opens a WebSocket is a page.
    assert status(port, path) == (403 if path == "/session" else 200)


def test_nothing_but_the_page_is_served(port: int) -> None:
    for path in ("/../app.py", "/%2e%2e/app.py", "//etc/passwd", "/models/digits"):
        assert status(port, path) == 404


def test_it_listens_on_the_loopback_only(port: int) -> None:
    # 127.0.0.1 is bound, so another address of the loopback's is not.
    with pytest.raises(OSError), socket.create_connection(("127.0.0.2", port), timeout=5):
        pass


# --- sherpa-ncnn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_recording_that_comes_in_pieces_is_what_it_is_as_a_whole(
    results: Path, rate: int
) -> None:
    folder = results / "digits" / "sherpa-ncnn" / "fp32"
    samples = audio.read(DIGITS / "test_wavs" / "1.wav")
    (whole,) = transcription.sherpa_texts(folder, {"1": samples}, threads=1, tail_seconds=0.5)
    spoken = soxr.resample(samples, 16000, rate).astype(np.float32)
    with Engine(folder, 0.5, rate) as engine:
        assert engine.loaded() > 0
        heard = [engine.accept(piece) for piece in np.array_split(spoken, 10)]
        last = engine.finish()
    assert last.text == whole == said("1.wav")
    assert last.seconds == pytest.approx(len(samples) / 16000 + 0.5, abs=1e-3)
    first = next(x for x in heard if x.text)
    assert last.first_token == first.first_token is not None
    assert last.first_token > first.seconds - len(samples) / 16000 / 10 - 1e-3
    assert last.real_time_factor > 0


def test_a_model_that_sherpa_ncnn_cannot_run_is_an_error(results: Path, tmp_path: Path) -> None:
    for file in (results / "digits/sherpa-ncnn/fp32").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.suffix != ".bin" else b"")
    refusal = pytest.raises(UserError, match="sherpa-ncnn cannot run .*its process ended with")
    with Engine(tmp_path, 0.5, 16000) as engine, refusal:
        engine.loaded()


def session(port: int, asked: object) -> websocket.WebSocket:
    """A session that has been asked for something, as the page does it."""
    opened = websocket.create_connection(
        f"ws://127.0.0.1:{port}/session", timeout=PATIENCE, origin=f"http://127.0.0.1:{port}"
    )
    opened.send(json.dumps(asked))
    return opened


def answer(opened: websocket.WebSocket, *kinds: str) -> dict[str, Any]:
    """The next message of one of some kinds."""
    while (message := json.loads(opened.recv()))["kind"] not in kinds:
        pass
    return message


ASKED = {"model": "digits", "precisions": ["fp16"], "rate": 16000}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("digits", "expected a model that is there, and some of its precisions"),
        ({**ASKED, "model": "../digits"}, "expected a model that is there"),
        ({**ASKED, "model": ["digits"]}, "expected a model that is there"),
        ({**ASKED, "precisions": ["../fp32"]}, "expected a model that is there"),
        ({**ASKED, "precisions": ["int8"]}, "expected a model that is there"),
        ({**ASKED, "precisions": ["fp16", "fp16"]}, "expected a model that is there"),
        ({**ASKED, "precisions": []}, "expected a model that is there"),
        ({**ASKED, "precisions": [[]]}, "expected a model that is there"),
        ({**ASKED, "rate": 10}, "expected the samples' rate"),
        ({**ASKED, "rate": True}, "expected the samples' rate"),
    ],
)
def test_what_there_is_not_is_refused(port: int, asked: object, message: str) -> None:
    opened = session(port, asked)
    assert message in answer(opened, "error")["message"]
    opened.close()


@pytest.mark.parametrize(
    "data", [b"123", b"", np.array([np.nan], dtype="<f4").tobytes(), bytes(2**20 + 4)]
)
def test_what_is_no_sound_is_refused(port: int, data: bytes) -> None:
    opened = session(port, ASKED)
    answer(opened, "ready")
    opened.send_binary(data)
    assert "expected samples" in answer(opened, "error")["message"]
    opened.close()


def test_one_page_at_a_time_and_one_that_is_closed_makes_room(port: int) -> None:
    first = session(port, ASKED)
    answer(first, "ready")
    second = session(port, ASKED)
    assert "another page is using the models" in answer(second, "error")["message"]
    second.close()
    first.close()
    for _ in range(100):  # until the server has noticed
        third = session(port, ASKED)
        if answer(third, "ready", "error")["kind"] == "ready":
            break
        third.close()
        time.sleep(0.05)
    samples = audio.read(DIGITS / "test_wavs" / "3.wav")
    third.send_binary(samples.astype("<f4").tobytes())
    third.send("end")
    assert answer(third, "done")["text"] == said("3.wav")
    assert answer(third, "end") == {"kind": "end"}
    third.close()


# --- In a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_browser.Browser]:
    """The page, in a browser whose microphone plays a recording once, silence before and behind."""
    if real_browser.MISSING:
        pytest.skip(real_browser.MISSING)
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    samples, rate = soundfile.read(DIGITS / "test_wavs" / "1.wav", dtype="float32")
    silence = np.zeros(rate, dtype=np.float32)
    soundfile.write(spoken, np.concatenate([silence, samples, np.zeros(30 * rate)]), rate)
    with real_browser.browser(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}%noloop",
    ) as browser:
        assert browser.open(f"http://127.0.0.1:{port}/", 1000) == []
        wait(browser, lambda _: status_line(browser) == "Ready.")
        yield browser


def wait(page: real_browser.Browser, condition: Any, seconds: float = PATIENCE) -> Any:
    return WebDriverWait(page.driver, seconds, poll_frequency=0.1).until(condition)


def status_line(page: real_browser.Browser) -> str:
    return page.driver.find_element(By.ID, "status").text


def shown(page: real_browser.Browser, what: str) -> dict[str, str]:
    """By precision, what the page shows of it."""
    return {
        result.get_attribute("data-precision"): result.find_element(By.CLASS_NAME, what).text
        for result in page.driver.find_elements(By.CLASS_NAME, "result")
    }


def test_a_person_speaks_and_sees_the_text_grow(page: real_browser.Browser) -> None:
    button = page.driver.find_element(By.ID, "record")
    button.click()
    wait(page, lambda _: status_line(page).startswith("Recording."))
    # Both say the first word while the rest is being spoken.
    first = said("1.wav").split()[0]
    wait(page, lambda _: all(text.startswith(first) for text in shown(page, "text").values()))
    wait(page, lambda _: {*shown(page, "text").values()} == {said("1.wav")})
    button.click()
    wait(page, lambda _: status_line(page) == "Done.")
    assert shown(page, "text") == dict.fromkeys(PRECISIONS, said("1.wav"))
    assert list(shown(page, "text")) == list(PRECISIONS)
    for what, unit in (("first_token", " s"), ("real_time_factor", ""), ("seconds", " s")):
        assert all(float(x.removesuffix(unit)) > 0 for x in shown(page, what).values()), what
    assert button.text == "Record" and button.is_enabled()


#: Drops a file on the page, as a person's hand does.
DROP = """
    const bytes = Uint8Array.from(atob(arguments[0]), (character) => character.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], "dropped.wav"));
    for (const kind of ["dragover", "drop"])
        document.getElementById("drop").dispatchEvent(
            new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
"""


@pytest.mark.parametrize("dropped", [False, True])
def test_a_recording_is_transcribed(page: real_browser.Browser, dropped: bool) -> None:
    boxes = page.driver.find_elements(By.CSS_SELECTOR, "#precisions input")
    boxes[0].click()
    wav = DIGITS / "test_wavs" / "2.wav"
    page.driver.execute_script("document.getElementById('status').textContent = ''")
    if dropped:
        page.driver.execute_script(DROP, base64.b64encode(wav.read_bytes()).decode())
    else:
        page.driver.find_element(By.ID, "file").send_keys(str(wav))
    wait(page, lambda _: status_line(page) == "Done.")
    assert shown(page, "text") == {PRECISIONS[1]: said("2.wav")}
    # The silence behind it is counted.
    expected = soundfile.info(wav).duration + 0.5
    assert shown(page, "seconds") == {PRECISIONS[1]: f"{expected:.1f} s"}
    boxes[0].click()


def test_what_is_no_recording_is_refused_on_the_page(
    page: real_browser.Browser, tmp_path: Path
) -> None:
    (tmp_path / "x.wav").write_bytes(os.urandom(5000))
    page.driver.find_element(By.ID, "file").send_keys(str(tmp_path / "x.wav"))
    wait(
        page,
        lambda _: (
            status_line(page) == "the recording: cannot be decoded as audio "
            "(Format not recognised.)."
        ),
    )
    assert page.driver.find_element(By.ID, "record").is_enabled()


def test_the_page_fits_a_telephone_and_is_without_faults(
    page: real_browser.Browser, port: int
) -> None:
    assert page.open(f"http://127.0.0.1:{port}/", 390) == []
