"""The report: what it says, what it keeps quiet about, and how it does in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser as real_browser
import made_up
import pytest
import soundfile
from conftest import ROOT

from transducer2ncnn.report import filters, page, rule_graph
from transducer2ncnn.report.rule_graph import RuleGraph

TEST_WAVS = ROOT / "models" / "digits" / "test_wavs"
HOSTILE = """<script>document.title = "taken over"</script><img src=x onerror="alert(1)">'&"""


def make(folder: Path, seed: str = "0", **options: Any) -> Path:
    """A report of made-up artifacts, made as the rule does it, in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = made_up.arguments(made_up.write(folder, **options))
    report = folder / "report.html"
    command = [sys.executable, "-m", "workflow_scripts.make_report", "--model", "digits"]
    done = subprocess.run(
        [*command, *arguments, "--output", str(report)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a model that is neither int8 nor evaluated, and has no manifest."""
    folder = tmp_path_factory.mktemp("bare")
    return make(folder, kinds={"fp32": "fp32", "fp16": "fp16"}, optional=False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which whatever comes from a user's files would be markup."""
    evaluation = made_up.evaluation("int8")
    evaluation["differences"] = [
        {**x, **dict.fromkeys(("id", "wav", "reference", "pytorch", "sherpa_ncnn"), HOSTILE)}
        for x in evaluation["differences"]
    ]
    manifest = made_up.manifest()
    manifest["source"] |= {"repo_id": HOSTILE, "chosen": {HOSTILE: HOSTILE}}
    manifest["source"]["files"] = {HOSTILE: {"size": 1000, "sha256": HOSTILE}}
    manifest["config"] = {HOSTILE: [HOSTILE]}
    manifest["versions"] = {HOSTILE: HOSTILE}
    quantization = made_up.quantization()
    for layer in quantization["layers"]:
        layer |= {"name": HOSTILE, "pytorch_name": HOSTILE}
    rules = {"rules": [HOSTILE, "b"], "edges": [[HOSTILE, "b"]]}
    changes = {
        "evaluation/int8.json": evaluation,
        "evaluation/speed.json": made_up.speed() | {"cpu": HOSTILE},
        "manifest.json": manifest,
        "quantization/int8.json": quantization,
        "rules.json": rules,
    }
    return make(tmp_path_factory.mktemp("hostile"), changes=changes)


class Reader(HTMLParser):
    """A page's text by section, and its tables' rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {"": ""}
        self.rows: dict[str, list[list[str]]] = {}
        self._section = ""
        self._quiet = self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
            self.text[self._section], self.rows[self._section] = "", []
        elif tag == "tr":
            self.rows[self._section].append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")
            self._in_cell = True
        elif tag in ("style", "svg"):
            self._quiet = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False
        elif tag in ("style", "svg"):
            self._quiet = False

    def handle_data(self, data: str) -> None:
        if self._quiet:
            return
        words = re.sub(r"\s+", " ", data)
        self.text[self._section] += words
        if self._in_cell:
            cell = self.rows[self._section][-1]
            cell[-1] = (cell[-1] + words).strip()


def read(report: Path) -> Reader:
    return Reader(report.read_text(encoding="utf-8"))


def rows_of(reader: Reader, section: str, first: str) -> list[list[str]]:
    return [row for row in reader.rows[section] if row[0] == first]


def test_accuracy_and_speed_are_the_artifacts(report: Path) -> None:
    reader = read(report)
    # 6 errors, one a deletion, in 240 words; PyTorch has 3.
    (row, *pairs) = [row for row in reader.rows["accuracy"] if row[0] == "int8"]
    assert row[:8] == ["int8", "2.50", "1.25 to 4.17", "5", "1", "0", "0.55", "12.50"]
    assert row[8:] == ["+1.25", "+0.85 to +2.40", "yes", "2.00, passed", "99.48 %"]
    assert rows_of(reader, "accuracy", "fp16")[0][-2] == "no limit"
    assert pairs == []
    (row,) = rows_of(reader, "accuracy", "PyTorch")
    assert row[:8] == ["PyTorch", "1.25", "0.00 to 2.92", "2", "1", "0", "0.27", "6.25"]
    assert ["fp32", "int8", "+1.25", "+0.45 to +2.25", "no"] in reader.rows["accuracy"]
    assert rows_of(reader, "speed", "int8") == [
        ["int8", "0.014", "0.013 to 0.016", "1.14", "1.06 to 1.28", "48", "45 to 54", "0.04"]
    ]
    assert "Model 8488" in reader.text["speed"]


def test_sizes_and_hashes_are_the_manifests(report: Path) -> None:
    reader, manifest = read(report), made_up.manifest()
    rows = reader.rows["size"]
    assert ["encoder_jit_trace-pnnx.ncnn.int8.bin", "1.16 MiB", "26.1 %"] in rows
    int8 = [x for path, x in manifest["delivered"].items() if "/int8/" in path]
    total = sum(file["size"] for file in int8)
    share = f"{100 * total / made_up.CHECKPOINT_SIZE:.1f} %"
    assert ["int8", f"{total / 2**20:.2f} MiB", share] in rows
    hashes = {row[-1]: row[1] for row in reader.rows["versions"] if len(row) == 4}
    for path, file in manifest["delivered"].items():
        assert hashes[file["sha256"]] == Path(path).name
    assert ["ncnn", "1.0.20261020"] in reader.rows["versions"]
    assert manifest["source"]["commit"] in reader.text["source"]


def test_parity_and_layers_are_the_artifacts(report: Path) -> None:
    reader = read(report)
    row, own = (row for row in reader.rows["parity"] if row[0] == "fp32")
    assert row[1:6] == ["encoder", "1.8·10−6", "1.7·10−6", "1.0·10−4", "296"]
    assert own[1:] == [f"{error} of 2.0·10−2" for error in ("1.0·10−3", "1.9·10−4", "3.9·10−4")]
    together = ["all together", "60", "98.33 %", "3.4·10−3", "99.89 %", "0.0661", "2.780"]
    assert together in reader.rows["parity"]
    edits = "Token edits between the two texts: 1, of fp32’s 59 tokens"
    assert [edits, "1.70 %", "at most 5.0 %"] in reader.rows["parity"]
    layers = made_up.quantization()["layers"]
    rows = [row for row in reader.rows["quantization"] if len(row) == 12][1:]
    assert len(rows) == len(layers)
    for row, layer in zip(rows, layers, strict=True):
        assert row[0].startswith(layer["name"]) and layer["pytorch_name"] in row[0]
        assert row[6] == f"{layer['alone']['snr_db']:.1f}"
        normed = layer["after_norm"]
        assert row[8] == (f"{normed['snr_db']:.1f}" if normed else "–")
        assert row[10] == f"{layer['accumulated']['snr_db']:.1f}"
        if layer["input"]:
            numbers = [float(cell) for cell in row[2:5]]
            expected = [layer["input"][key] for key in ("absmax", "threshold", "scale")]
            assert numbers == pytest.approx(expected, rel=1e-3)
        else:
            assert row[2:6] == ["–"] * 4
    # A histogram for each input that has a scale.
    assert report.read_text().count('id="histogram-') >= sum(bool(x["input"]) for x in layers)


def test_a_search_is_shown_point_by_point(report: Path, tmp_path: Path) -> None:
    assert 'id="search"' not in report.read_text()
    found = made_up.search()
    searched = make(tmp_path, changes={"search/int8.json": found})
    rows = [row for row in read(searched).rows["search"] if row[0] in "1234"]
    assert [row[1] for row in rows] == [x["change"] for x in found["points"]]
    assert [row[6:8] for row in rows] == [
        ["13", "1,055"],
        ["7", "1,051"],
        ["–", "–"],
        ["1", "1,053"],
    ]
    assert "max_differing_frames 8" in read(searched).text["search"]
    assert 'id="search-0' in searched.read_text()


def test_the_headline_says_what_int8_gains_and_costs(report: Path) -> None:
    glance = read(report).text["glance"]
    sizes = {p: sum(made_up.SIZES[p]) + 3 * 5671 + 213 for p in ("fp32", "int8")}
    assert f"takes {100 * sizes['int8'] / sizes['fp32']:.0f}" in glance
    assert "needs 66 % of its computing time" in glance
    assert "1.25 percentage points above that of PyTorch" in glance
    assert "more than chance explains" in glance
    assert "0.42 to 3.33" in glance  # fp16's interval


def test_the_first_screen_has_pytorch_and_a_verdict(report: Path, bare: Path) -> None:
    glance = read(report).text["glance"]
    assert "int8 is worse than PyTorch, by more than chance explains." in glance
    assert "fp32 and fp16 are as accurate as PyTorch, within chance." in glance
    cards = re.findall(r'class="card([\w ]*)".*\n<h3>(.*?)</h3>', report.read_text())
    assert [(name, *grade.split()) for grade, name in cards] == [
        ("PyTorch",),
        ("fp32", "same"),
        ("fp16", "same"),
        ("int8", "above"),
    ]
    assert re.search(r"PyTorch +Size of the checkpoint .*1\.25.%.*fp32 +Size", glance)
    assert "Warning" not in glance
    assert "PyTorch" not in read(bare).text["glance"]


def test_a_rate_of_78_percent_does_not_look_like_one_of_2(tmp_path: Path) -> None:
    bad = made_up.evaluation("int8")
    bad["wer"] |= {"rate": 0.78, "low": 0.7, "high": 0.85}
    bad["rise"] = {"rate": 0.7675, "low": 0.7, "high": 0.8, "significant": True}
    bad["warnings"] = ["int8 is far worse than PyTorch: …"]
    manifest = made_up.manifest() | {"warnings": ["its tokens spell bytes"]}
    changes = {"evaluation/int8.json": bad, "manifest.json": manifest}
    report = make(tmp_path, changes=changes)
    glance = read(report).text["glance"]
    assert re.search(r'class="judged far">int8 is far worse than PyTorch', report.read_text())
    assert "Warning: int8 is far worse than PyTorch: …" in glance
    assert "Warning: its tokens spell bytes" in glance
    assert "of no use at that rate" in glance
    graded = re.findall(r'class="card (\w+ ?\w*)"', report.read_text())
    assert graded == ["same", "same", "far useless"]


def test_what_was_counted_is_said(tmp_path: Path) -> None:
    changes = {}
    for precision in made_up.PRECISIONS:
        score = made_up.evaluation(precision) | {"unit": "mixed", "decoded_bytes": "byte fallback"}
        for row in score["differences"]:
            row |= {"reference": "零四 WIFI", "sherpa_ncnn": "零 五 wifi"}
        changes[f"evaluation/{precision}.json"] = score
    report = make(tmp_path, changes=changes)
    text = read(report).text["accuracy"]
    assert "240 characters and words" in text and "MER is the mixed error rate" in text
    assert "The tokens spell bytes (byte fallback)" in text
    assert "white space, case and full width" in text
    assert "零 <mark>五</mark> wifi" in report.read_text()


def test_any_number_of_precisions_of_any_name(tmp_path: Path) -> None:
    """Each has its place in every section, in the order in which they are configured."""
    names = ("int8-small", "fp32", "half.1", "int8")
    kinds = dict(zip(names, ("int8", "fp32", "fp16", "int8"), strict=True))
    manifest, speed = made_up.manifest(), made_up.speed()
    manifest["delivered"] = {
        path.replace(f"/{kind}/", f"/{name}/"): file
        for name, kind in kinds.items()
        for path, file in manifest["delivered"].items()
        if f"/{kind}/" in path
    }
    small = "sherpa-ncnn/int8-small/encoder_jit_trace-pnnx.ncnn.int8.bin"
    manifest["delivered"][small] = {"size": 10_000, "sha256": "0" * 64}
    speed["precisions"] = {name: speed["precisions"][kind] for name, kind in kinds.items()}
    changes = {
        "manifest.json": manifest,
        "evaluation/speed.json": speed,
        "evaluation/comparison.json": {
            "pairs": [made_up.comparison()["pairs"][0] | {"a": "int8-small", "b": "half.1"}]
        },
    }
    report = make(tmp_path, kinds=kinds, changes=changes)
    reader = read(report)
    text = reader.text[""] + reader.text["glance"]
    assert "int8-small, fp32, half.1 and int8" in text
    for section in ("size", "accuracy", "speed", "versions"):
        shown = [row[0] for row in reader.rows[section] if row[0] in names]
        assert list(dict.fromkeys(shown)) == list(names), section
    assert rows_of(reader, "accuracy", "int8-small")[-1][:2] == ["int8-small", "half.1"]
    for name in names:
        assert name in reader.text["differences"]
    plain = [row[0] for row in reader.rows["parity"] if row[0] in names]
    assert plain == ["fp32", "half.1", "fp32", "half.1"]
    for name in ("int8-small", "int8"):
        assert f"From fp32 to {name}" in reader.text["parity"]
        assert name in reader.text["quantization"]
    assert len(re.findall("Scales of the weights", reader.text["quantization"])) == 2
    # The smallest is the one that is smallest, wherever it stands.
    assert "chance. int8-small takes" in reader.text["glance"]
    # Each has a colour of its own.
    colors = dict(
        re.findall(r'class="card.*" style="--color: (#\w+)">\n<h3>(.*?)</h3>', report.read_text())
    )
    assert list(colors.values()) == ["PyTorch", *names]


def test_the_headline_makes_nothing_of_noise(tmp_path: Path) -> None:
    speed, evaluation = made_up.speed(), made_up.evaluation("int8")
    speed["precisions"]["int8"]["real_time_factor"] = {"median": 0.015, "min": 0.014, "max": 0.022}
    evaluation["rise"] |= {"rate": -0.002, "significant": False}
    changes = {"evaluation/speed.json": speed, "evaluation/int8.json": evaluation}
    glance = read(make(tmp_path, changes=changes)).text["glance"]
    assert "is as fast, within what the measurement spreads" in glance
    assert "0.20 percentage points below that of PyTorch" in glance
    assert "which chance may explain" in glance


def test_utterances_can_be_listened_to(report: Path) -> None:
    text = report.read_text()
    reader = read(report)
    assert "utterance-0" in reader.text["differences"]
    # The second one is a part of its recording.
    address = os.path.relpath(TEST_WAVS / "1.wav", report.parent)
    assert f'src="{address}#t=1.25,3.75"' in text
    assert f'src="{address.replace("1.wav", "0.wav")}"' in text
    assert "<mark>free</mark>" in text and "<del>oh</del>" in text


@pytest.mark.parametrize(
    ("reference", "heard", "runs"),
    [
        ("a b c", "a b c", [("same", "a b c")]),
        ("a b c", "a x c", [("same", "a"), ("wrong", "x"), ("same", "c")]),
        ("a b c", "a c", [("same", "a"), ("missing", "b"), ("same", "c")]),
        ("a c", "a b c", [("same", "a"), ("wrong", "b"), ("same", "c")]),
        ("a b c", "x c", [("wrong", "x"), ("missing", "b"), ("same", "c")]),
        ("a b", "", [("missing", "a b")]),
        ("A b", "a B", [("same", "a B")]),
        ("", "", []),
    ],
)
def test_words_compared(reference: str, heard: str, runs: list) -> None:
    assert page.compare_words(reference, heard) == runs


def test_numbers_for_people() -> None:
    assert filters.size(4495872) == "4.29\u00a0MiB"
    assert filters.size(213) == "213\u00a0bytes"
    assert filters.points(-0.00423) == "−0.42"
    assert filters.points(-0.00001) == "0.00"
    assert str(filters.power(1.7553e-6)) == "1.8·10<sup>−6</sup>"
    assert filters.number(1234.56) == "1,235"
    assert filters.number(0.99972) == "0.9997"
    assert filters.number(0) == "0.000"
    assert filters.settings({"a": {"b": [1, 2], "c": {}}, "d": list(range(9))}) == [
        ("a.b", "1, 2"),
        ("a.c", "none"),
        ("d", "0, 1, 2, 3, 4, 5 and 3 more"),
    ]
    assert filters.listed(["fp32"]) == "fp32"
    assert filters.listed(["fp32", "fp16", "int8"]) == "fp32, fp16 and int8"


def test_what_is_not_there_is_left_out_with_a_word_on_how_to_get_it(bare: Path) -> None:
    text = read(bare).text
    assert "models.digits.evaluation" in text["accuracy"]
    assert "models.digits.evaluation" in text["speed"]
    assert "models.digits.evaluation" in text["differences"]
    assert "results/digits/manifest.json" in text["source"]
    assert "models.digits.test_wavs" in text["quantization"]
    assert "not evaluated" in text["glance"]
    assert read(bare).rows["parity"]


def test_a_model_that_hears_nothing_has_no_latency(tmp_path: Path) -> None:
    speed = made_up.speed()
    for figures in speed["precisions"].values():
        figures["first_token_latency"] = None
    report = make(tmp_path, changes={"evaluation/speed.json": speed})
    assert rows_of(read(report), "speed", "fp32")[0][3:5] == ["–", "–"]


def test_nothing_in_it_comes_from_elsewhere(report: Path) -> None:
    text = report.read_text()
    assert "<script" not in text and "<link" in text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses
    for address in addresses:
        # Its own parts, an empty icon, and recordings in files beside it.
        assert address.startswith(("#", "data:,")) or address.split("#")[0].endswith(".wav")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_hostile_strings_are_text(hostile: Path) -> None:
    text = hostile.read_text()
    assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;" in text
    reader = read(hostile)
    # As it was, where a reader sees it.
    for section in ("source", "differences", "quantization", "versions", "speed"):
        assert "<script>" in reader.text[section], section


def test_the_same_bytes_from_the_same_artifacts(report: Path, tmp_path: Path) -> None:
    """In the same folder, as paths of recordings lead from there; with other hashes of strings."""
    before = report.read_bytes()
    assert make(report.parent, seed="1234").read_bytes() == before
    assert b"<dc:date>" not in before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("manifest.json", '{"model": ', "cannot be read as JSON"),
        ("manifest.json", "{}", "has no key '"),
        ("verification/headroom.json", "{}", "has no key '"),
        ("evaluation/speed.json", "{}", "has no key '"),
    ],
)
def test_a_broken_artifact_is_a_message(tmp_path: Path, name: str, text: str, message: str) -> None:
    options = made_up.arguments(made_up.write(tmp_path))
    broken = next(Path(x) for x in options if x.endswith(Path(name).name))
    broken.write_text(text)
    command = [sys.executable, "-m", "workflow_scripts.make_report", "--model", "digits"]
    done = subprocess.run(
        [*command, *options, "--output", str(tmp_path / "report.html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"error: {broken}: {message}" in done.stderr
    assert not (tmp_path / "report.html").exists()


# The rules


def test_arrows_that_follow_from_others_are_left_out() -> None:
    whole = RuleGraph(("a", "b", "c"), (("a", "b"), ("a", "c"), ("b", "c")))
    graph = rule_graph.reduced(whole)
    assert graph.edges == (("a", "b"), ("b", "c"))


def test_every_arrow_leads_down_and_no_box_lies_on_another() -> None:
    names = "abcdefghijkl"
    edges = tuple(
        sorted({(a, b) for a in names for b in names if a < b and ord(a) * ord(b) % 5 == 0})
    )
    graph = rule_graph.reduced(RuleGraph(tuple(names), edges))
    widths = {name: 0.3 + 0.1 * (ord(name) % 7) for name in names}
    layout = rule_graph.layout(graph, widths, gap=0.1)
    assert layout.positions.keys() == set(names)
    for (a, b), route in layout.routes.items():
        assert route[0] == layout.positions[a] and route[-1] == layout.positions[b]
        assert [y for _, y in route] == list(range(int(route[0][1]), int(route[-1][1]) + 1))
        assert len(route) > 1
    for a in names:
        for b in names:
            (ax, ay), (bx, by) = layout.positions[a], layout.positions[b]
            if a < b and ay == by:
                assert abs(ax - bx) >= (widths[a] + widths[b]) / 2 + 0.1 - 1e-9


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[real_browser.Browser]:
    if real_browser.MISSING:
        pytest.skip(real_browser.MISSING)
    with real_browser.browser() as opened:
        yield opened


@pytest.mark.parametrize("width", [1280, 700, 390])
@pytest.mark.parametrize("name", ["report", "bare", "hostile"])
def test_a_browser_finds_nothing_wrong(
    browser: real_browser.Browser, request: pytest.FixtureRequest, name: str, width: int
) -> None:
    assert browser.open(request.getfixturevalue(name), width) == []
    driver = browser.driver
    assert driver.title == "digits in ncnn"
    assert driver.execute_script("return document.scripts.length") == 0
    assert driver.execute_script("return document.querySelectorAll('section').length") == 11


def test_a_browser_plays_the_recordings(browser: real_browser.Browser, report: Path) -> None:
    browser.open(report, 1280)
    played = browser.driver.execute_async_script("""
        const done = arguments[0], audio = document.querySelector("audio");
        audio.onloadedmetadata = () => done(audio.duration);
        audio.onerror = () => done("cannot play " + audio.src);
        audio.load();
        audio.preload = "auto";
    """)
    assert played == pytest.approx(soundfile.info(TEST_WAVS / "0.wav").duration, abs=0.01)


def test_what_is_cut_off_shows_that_it_scrolls(browser: real_browser.Browser, report: Path) -> None:
    browser.open(report, 390)
    cut, unmarked = browser.driver.execute_script("""
        const cut = Array.from(document.querySelectorAll("main *")).filter(
            element => element.scrollWidth > element.clientWidth + 1
                && getComputedStyle(element).overflowX !== "visible");
        const marked = element =>
            getComputedStyle(element).backgroundImage.includes("gradient")
            && getComputedStyle(element).overflowX === "auto";
        return [cut.length, cut.filter(element => !marked(element)).map(e => e.outerHTML)];
    """)
    assert cut > 5 and unmarked == []


def test_a_large_model_fits_too(browser: real_browser.Browser, tmp_path: Path) -> None:
    changes = {"quantization/int8.json": made_up.quantization(lstms=12)}
    report = make(tmp_path, changes=changes)
    for width in (1280, 390):
        assert browser.open(report, width) == []
    assert report.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ("<script>nowhere()</script>", "console: .*nowhere is not defined"),
        ("<script>console.error('x')</script>", "console: "),
        ("<img src='missing.png'>", "missing image"),
        ("<script src='https://example.invalid/x.js'></script>", "request: https://example"),
        ("<p style='width: 3000px'>wide</p>", "wider than the window"),
        ("<svg></svg><svg width='9' height='0'></svg>", "empty figure"),
        ("<a href='#nowhere'>x</a>", "dangling link"),
        ("<i id='a'></i><i id='a'></i>", "id given twice"),
    ],
)
def test_the_browser_finds_what_is_wrong(
    browser: real_browser.Browser, tmp_path: Path, markup: str, found: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><link rel=icon href='data:,'><title>x</title>{markup}")
    assert any(re.match(found, wrong) for wrong in browser.open(path, 1000))


def test_the_headroom_in_fp16(report: Path, bare: Path, tmp_path: Path) -> None:
    section = read(report).rows["device"]
    assert section[1] == [
        "input of a norm,whose square reaches 2,670, in fp32",
        "51.68",
        "1,268",
        "encoder: InnerProduct linear_8, Linear encoder_embed.out in PyTorch; blob 35",
    ]
    assert section[2][:2] == ["cell state of an LSTM", "17.25"]
    assert "65,504 at most" in read(report).text["device"]
    assert "Warning" not in read(report).text["device"]
    assert "was not there when this page was made" in read(bare).text["device"]
    near = {"verification/headroom.json": made_up.headroom(("blob '35' reaches 41,000",))}
    warned = read(make(tmp_path, changes=near))
    assert "Warning: blob '35' reaches 41,000" in warned.text["device"]


def test_what_an_emulated_processor_computed(report: Path, bare: Path) -> None:
    section = read(report)
    assert "On an emulated cortex-a76" in section.text["device"]
    assert "The processor has neon and asimdhp." in section.text["device"]
    assert section.rows["device"][-3:] == [
        ["fp32", "encoder", "1.0·10−2", "2.0·10−2", "1.0·10−3", "1 of 1"],
        ["", "decoder", "3.8·10−4", "2.0·10−2", "3.8·10−5", ""],
        ["", "joiner", "2.2·10−3", "2.0·10−2", "2.2·10−4", ""],
    ]
    assert "emulated" not in read(bare).text["device"]
