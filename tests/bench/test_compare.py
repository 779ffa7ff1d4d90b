"""Records side by side: exact tables of invented records, and what may not be ranked together."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from edgesam_export.bench import render
from edgesam_export.bench.compare import compare, fits
from edgesam_export.bench.published import load_published
from edgesam_export.bench.record import make_record
from edgesam_export.bench.render import markdown, plot, text, write_comparison
from edgesam_export.bench.render.cases import case_table
from edgesam_export.bench.rows import PARTS, record_rows
from edgesam_export.errors import SchemaError, UsageError

MS = 1_000_000
PHONE = {"marketing_name": "iPhone 14", "os_version": "iOS 18.1", "os_build": "22B83"}


def case(units, *times_ms, points=1, **fields):
    """A case whose stages took 120 times the same."""
    names = ("encoder", "decoder", "end_to_end")[: len(times_ms)]
    stages = {
        name: {"warmup_n": 0, "warmup_ns": [], "samples_ns": [round(ms * MS)] * max(120, round(11000 / ms))}
        for name, ms in zip(names, times_ms)
    }
    return {
        "id": f"{units}/{units}/n{points}",
        "runtime": "coreml",
        "compute_units": {"encoder": units, "decoder": units},
        "n_points": points,
        "stages": stages,
        "validity": {"reasons": []},
        "outcome": "ok",
        **fields,
    }


def record(*cases, device=PHONE, number=1):
    raw = {
        "schema_version": 1,
        "protocol_version": 1,
        "run_id": f"{number:08d}-0000-4000-8000-000000000000",
        "nonce": "0" * 32,
        "device": device,
        "models": [{"id": "edge_sam_encoder", "role": "encoder", "sha256": "a" * 64, "model": "edge_sam"}],
        "cases": list(cases),
    }
    return (f"r{number}.json", make_record(raw, host={"os": "macOS 15", "backend": "invented"}))


TWO = record(
    case("all", 20, 5, 26, sustained={"window_s": 60.0, "frames": 2280}),
    case("cpu_and_ne", 16, 4, 21),
    case("cpu_only", 100, 30, 131, validity={"reasons": ["it was throttled"]}),
)


TABLE = """
#  model     part     device     system            runtime            p50 ms  fps p50  fps sustained
1  edge_sam  total    iPhone 14  iOS 18.1 (22B83)  coreml cpu_and_ne    21.0     50.0              -
2  edge_sam  total    iPhone 14  iOS 18.1 (22B83)  coreml all           26.0     40.0           38.0
1  edge_sam  encoder  iPhone 14  iOS 18.1 (22B83)  coreml cpu_and_ne    16.0        -              -
2  edge_sam  encoder  iPhone 14  iOS 18.1 (22B83)  coreml all           20.0        -              -
1  edge_sam  decoder  iPhone 14  iOS 18.1 (22B83)  coreml cpu_and_ne    4.00        -              -
2  edge_sam  decoder  iPhone 14  iOS 18.1 (22B83)  coreml all           5.00        -              -
"""


def test_the_table_of_a_record_is_exactly_this():
    table, unranked = text.render(compare([TWO])).rstrip("\n").split("\n\n")
    heading, *lines = TABLE.strip().splitlines()
    ends = [f"{heading}  method           source", *(f"{line}  edgesam-bench/1  r1.json" for line in lines)]
    assert table.splitlines() == ends
    times = "encoder 100 ms, decoder 30.0 ms, total 131 ms"
    assert unranked == f"not ranked\n  edge_sam on iPhone 14, coreml cpu_only (r1.json): {times}; it was throttled"


def test_markdown_has_the_same_cells():
    lines = markdown.render(compare([record(case("all", 20, 5))])).replace(" iOS 18.1 (22B83) |", "").splitlines()
    assert lines == [
        "| # | model | part | device | system | runtime | p50 ms | fps p50 | method | source |",
        "| ---: | --- | --- | --- | --- | --- | ---: | ---: | --- | --- |",
        "| 1 | edge\\_sam | total | iPhone 14 | coreml all | 25.0 | 40.0 | edgesam-bench/1 | r1.json |",
        "| 1 | edge\\_sam | encoder | iPhone 14 | coreml all | 20.0 | - | edgesam-bench/1 | r1.json |",
        "| 1 | edge\\_sam | decoder | iPhone 14 | coreml all | 5.00 | - | edgesam-bench/1 | r1.json |",
    ]


@pytest.mark.parametrize(
    "device",
    [
        {**PHONE, "marketing_name": "iPhone 15"},
        {**PHONE, "os_version": "iOS 18.2"},
        {**PHONE, "os_build": "22B91"},
    ],
    ids=["chip", "system", "build"],
)
def test_records_that_were_not_measured_alike_are_not_ranked_together(device):
    other = record(case("all", 10, 2, 12), device=device, number=2)
    with pytest.raises(UsageError, match=r"not measured alike: .*r1\.json.*r2\.json.*--across-methods"):
        compare([TWO, other])
    labelled = compare([TWO, other], across_methods=True)
    assert [row.source for row in labelled.ranked if row.part == "total"] == ["r2.json", "r1.json", "r1.json"]


def test_records_of_another_method_are_not_ranked_together():
    name, other = record(case("all", 10, 2, 12), number=2)
    with pytest.raises(UsageError, match="edgesam-bench/2 on iPhone 14"):
        compare([TWO, (name, {**other, "method": "edgesam-bench/2"})])


def test_records_that_were_measured_alike_are_ranked_together():
    faster = record(case("all", 10, 2, 12), number=2)
    assert [row.p50_ms for row in compare([TWO, faster]).ranked if row.part == "total"] == [12, 21, 26]


def test_an_invalid_case_of_another_device_is_listed_and_hinders_nothing():
    broken = case("all", outcome="crashed", error={"message": "out of memory"})
    found = compare([TWO, record(broken, device={**PHONE, "marketing_name": "iPhone 12"}, number=2)])
    assert "iPhone 12" not in {row.device for row in found.ranked}
    assert "edge_sam on iPhone 12, coreml all (r2.json): crashed: out of memory" in text.render(found)


def test_published_figures_stand_beside_the_ranking_unless_methods_may_mix():
    apart = compare([TWO], published=True, model="edgesam")
    assert not any(row.published for row in apart.ranked) and apart.published
    assert "shown beside, not ranked" in text.render(apart)
    mixed = compare([TWO], published=True, model="EdgeSAM", across_methods=True)
    totals = [(row.device, row.source) for row in mixed.ranked if row.part == "total"]
    assert ("iPhone 14", "r1.json") in totals and not mixed.published
    phone = next(row for row in mixed.ranked if row.published and row.fps_p50 == pytest.approx(38.7))
    assert phone.p50_ms == pytest.approx(25.84, abs=0.005) and "Xcode" in phone.method


def test_every_published_figure_becomes_a_row_or_says_why_not():
    rows = load_published()
    assert len(rows) > 150
    assert all(row.part in PARTS and row.method and row.source for row in rows)
    assert all((row.p50_ms is None) == bool(row.reasons) for row in rows)
    batch = next(row for row in rows if row.device == "A100" and row.model == "EfficientViT-SAM-L0")
    assert batch.reasons == ("762 images/s: throughput of a batch, not latency",)


def test_a_list_of_figures_that_is_none_is_named(tmp_path):
    (tmp_path / "p.toml").write_text("[[figure]]\nmodel = 1\n")
    with pytest.raises(SchemaError, match=r"p\.toml: is no list of published figures"):
        load_published(tmp_path / "p.toml")


@pytest.mark.parametrize(
    ("name", "wanted", "fitting"),
    [("edge_sam_3x", "EdgeSAM", True), ("EdgeSAM", "edge_sam_3x", True), ("MobileSAM", "edgesam", False)],
)
def test_a_model_is_found_under_both_spellings(name, wanted, fitting):
    assert fits(name, wanted) is fitting


def test_comparing_nothing_is_an_error():
    with pytest.raises(UsageError, match="nothing of model 'yolo9' to compare"):
        compare([TWO], model="yolo9")


def test_more_points_are_a_part_of_their_own_and_the_encoder_is_listed_once():
    rows = record_rows(record(case("all", 20, 5, 26), case("all", 20, 6, 27, points=4))[1], "r.json")
    assert [row.part_text for row in rows] == ["encoder", "decoder", "total", "decoder, 4 points", "total, 4 points"]


def test_a_gpu_is_named_instead_of_the_machine_it_is_in():
    gpu = case("cuda", 3, 1, runtime="pytorch_cuda", precision="fp16", accelerator="NVIDIA H200")
    row = record_rows(record(gpu)[1], "r.json")[0]
    assert (row.device, row.runtime) == ("NVIDIA H200", "pytorch_cuda fp16 cuda")


def test_the_lines_of_a_record_say_what_it_found():
    parity = {
        "encoder": {"psnr_db": 61.23, "finite": True},
        "decoder": {"psnr_db": 55.0, "mask_iou": 0.99812, "finite": True},
    }
    table = case_table(record(case("all", 20, 5, 26, parity=parity), case("cpu_only", 1, 1, 2, outcome="timeout"))[1])
    headings, *lines = (re.split(r"  +", line) for line in table.splitlines())
    assert headings[-3:] == ["fps sustained", "parity", "result"]
    assert lines[0] == ["all/all/n1", "20.0", "5.00", "26.0", "40.0", "-", "55.0 dB, IoU 0.998", "ok"]
    assert lines[1][-1] == "timeout"
    broken = case("all", 20, 5, parity={"encoder": {"finite": False}})
    assert re.split(r"  +", case_table(record(broken)[1]).splitlines()[1])[6] == "NOT FINITE"


def test_the_plot_shows_every_row_and_is_logarithmic_only_where_it_must():
    figure = plot.draw(compare([TWO]))
    lengths = [[bar.get_width() for bar in axis.patches] for axis in figure.axes]
    assert lengths == [[21.0, 26.0], [16.0, 20.0], [4.0, 5.0]]
    assert [axis.get_xscale() for axis in figure.axes] == ["linear"] * 3
    wide = plot.draw(compare([record(case("all", 20, 5, 26), case("cpu_only", 500, 50, 551))]))
    # total and encoder span more than twentyfold, the decoder does not
    assert [axis.get_xscale() for axis in wide.axes] == ["log", "log", "linear"]


def test_the_plot_names_how_many_rows_it_leaves_out():
    rows = [record(*(case(f"u{number}", 20 + number) for number in range(40)))]
    (axis,) = plot.draw(compare(rows)).axes
    assert len(axis.patches) == 30 and axis.get_title(loc="left") == "encoder, ms, fastest 30 of 40"


def test_a_comparison_is_written_in_the_format_of_the_suffix(tmp_path):
    comparison = compare([TWO])
    for name in ("plot.png", "plot.svg", "plot.pdf", "table.md", "table.txt"):
        write_comparison(comparison, tmp_path / "new" / name)
    pixels = np.asarray(Image.open(tmp_path / "new" / "plot.png").convert("RGB"))
    assert pixels.std() > 10  # something is drawn
    assert "<svg" in (tmp_path / "new" / "plot.svg").read_text()
    assert (tmp_path / "new" / "plot.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "new" / "table.md").read_text() == markdown.render(comparison)
    assert (tmp_path / "new" / "table.txt").read_text() == text.render(comparison)


def test_a_format_dropped_in_is_written(tmp_path, monkeypatch):
    (tmp_path / "csv_rows.py").write_text(
        "SUFFIX = '.csv'\n"
        "def render(comparison):\n    return ''.join(f'{row.part},{row.p50_ms}\\n' for row in comparison.ranked)\n"
    )
    monkeypatch.setattr(render, "__path__", [*render.__path__, str(tmp_path)])
    write_comparison(compare([record(case("all", 20, 5))]), tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "total,25.0\nencoder,20.0\ndecoder,5.0\n"


def test_a_plot_of_nothing_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nothing to draw; no ranked or published row"):
        write_comparison(compare([record(case("all", outcome="failed"))]), tmp_path / "plot.png")
    with pytest.raises(UsageError, match=r"cannot write .*plot\.xyz'; formats are \.md, \.pdf, \.png, \.svg, \.txt"):
        write_comparison(compare([TWO]), tmp_path / "plot.xyz")
    assert not list(tmp_path.iterdir())
