"""Analysis of saved packages: totals, placements, segments, missing weights, our exports' findings."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgesam_export.ane.analyzer import analyze, read_ranges
from edgesam_export.ane.report import AneReport
from edgesam_export.errors import ProgramError, UsageError
from edgesam_export.files import sha256_of
from edgesam_export.mil import load_program

GOLDENS = Path(__file__).parents[1] / "goldens"


def save(program, path: Path, **options) -> Path:
    import coremltools as ct

    options = {"minimum_deployment_target": ct.target.iOS17, "compute_precision": ct.precision.FLOAT32} | options
    ct.convert(program, convert_to="mlprogram", **options).save(str(path))
    return path


def fp16(*shape):
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    return mb.TensorSpec(shape, dtype=types.fp16)


@pytest.fixture(scope="module")
def conv_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conv 3x3 of 3 to 8 channels, relu, a linear layer 32 -> 16 on the last axis; all FP16."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    draw = np.random.default_rng(0)
    kernel, matrix = draw.standard_normal((8, 3, 3, 3)), draw.standard_normal((16, 32))

    @mb.program(input_specs=[fp16(1, 3, 32, 32)], opset_version=ct.target.iOS17)
    def program(x):
        y = mb.relu(x=mb.conv(x=x, weight=kernel.astype(np.float16), pad_type="same", name="features"))
        return mb.linear(x=y, weight=matrix.astype(np.float16), name="out")

    return save(program, tmp_path_factory.mktemp("conv") / "conv.mlpackage")


def found(report: AneReport) -> list[tuple[str, str, str | None]]:
    return [(finding.rule, finding.severity, finding.operation) for finding in report.findings]


def test_totals_are_those_counted_by_hand(conv_package):
    totals = analyze(conv_package, target="H14").totals
    assert totals.operations == 3 and totals.layout_operations == 0
    assert totals.multiply_adds == 8 * 32 * 32 * (3 * 3 * 3) + 8 * 32 * 16 * 32
    assert totals.parameters == 8 * 3 * 3 * 3 + 16 * 32 + 16  # coremltools adds a zero bias to the linear layer
    assert totals.weight_bytes == 2 * totals.parameters
    assert totals.activation_bytes == 2 * (8 * 32 * 32 * 2 + 8 * 32 * 16)
    assert totals.padded_activation_bytes == 2 * (8 * 32 * 32 * 2 + 8 * 32 * 32)  # rows of 16 take 64 bytes
    assert totals.compressed_share == 0


def test_the_report_says_what_was_analysed(conv_package):
    report = analyze(conv_package, target="iphone 14")
    assert (report.file, report.function, report.opset) == ("conv.mlpackage", "main", "iOS17")
    assert report.artifact_sha256 == sha256_of(conv_package)
    assert (report.target, report.families) == ("iPhone 14", ("H14",))
    assert report.placements[0].operation == "features"
    assert {row.placement for row in report.placements} == {"expected"}
    assert found(report) == [("A27", "info", "out"), ("P03", "info", None)]


def test_a_loaded_program_gives_the_same_report_as_its_path(conv_package):
    assert analyze(load_program(conv_package), target="H16") == analyze(conv_package, target="H16")


def test_a_cost_is_estimated_for_each_family(conv_package):
    report = analyze(conv_package, target="all")
    assert [cost.family for cost in report.costs] == list(report.families)
    assert all(len(cost.operations) == 3 and cost.time_ms > 0 for cost in report.costs)


def test_a_function_that_is_not_the_loaded_one_is_refused(conv_package):
    with pytest.raises(UsageError, match="the program is function 'main'; load 'other' instead"):
        analyze(load_program(conv_package), function="other")
    with pytest.raises(ProgramError, match="no function 'other'"):
        analyze(conv_package, function="other")


def test_a_package_without_its_weight_file_is_analysed_but_not_executed(conv_package, tmp_path):
    path = tmp_path / "conv.mlpackage"
    shutil.copytree(conv_package, path)
    shutil.rmtree(path / "Data" / "com.apple.CoreML" / "weights")
    with pytest.raises(ProgramError, match="cannot read the weight file"):
        load_program(path)
    report, complete = analyze(path, target="H14"), analyze(conv_package, target="H14")
    assert report.totals == complete.totals
    assert found(report) == found(complete)
    with pytest.raises(ProgramError, match="in a weight file that is missing"):
        load_program(path, require_weights=False).predict({"x": np.zeros((1, 3, 32, 32), np.float16)})


def test_a_weight_file_that_is_damaged_is_still_an_error(conv_package, tmp_path):
    path = tmp_path / "conv.mlpackage"
    shutil.copytree(conv_package, path)
    (path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").write_bytes(b"short")
    with pytest.raises(ProgramError, match="truncated"):
        analyze(path)


@pytest.fixture(scope="module")
def bad_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flexible number of points, an FP32 island, a product 65536 wide and a reshape to six axes."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import get_new_symbol

    weight = np.random.default_rng(0).standard_normal((128, 128, 3, 3)).astype(np.float16)
    specs = [fp16(1, 128, 64, 64), fp16(1, get_new_symbol(), 2), fp16(1, 4, 32), fp16(1, 32, 65536)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS17)
    def program(image, points, rows, columns):
        features = mb.conv(x=image, weight=weight, pad_type="same", name="features")
        island = mb.sigmoid(x=mb.cast(x=features, dtype="fp32", name="into"), name="island")
        back = mb.relu(x=mb.cast(x=island, dtype="fp16", name="out_of"), name="back")
        windows = mb.reshape(x=back, shape=(1, 8, 16, 8, 8, 64), name="windows")
        return windows, mb.relu(x=points, name="prompt"), mb.matmul(x=rows, y=columns, name="product")

    inputs = [
        ct.TensorType("image", (1, 128, 64, 64), dtype=np.float16),
        ct.TensorType("points", (1, ct.RangeDim(1, 16, default=2), 2), dtype=np.float16),
        ct.TensorType("rows", (1, 4, 32), dtype=np.float16),
        ct.TensorType("columns", (1, 32, 65536), dtype=np.float16),
    ]
    with pytest.MonkeyPatch.context() as patch:  # coremltools 9.0 itself writes no more than five axes
        patch.setattr("coremltools.converters.mil.mil.program.Program._check_invalid_tensor_rank", lambda self: None)
        return save(program, tmp_path_factory.mktemp("bad") / "bad.mlpackage", inputs=inputs)


def test_a_bad_package_gets_exactly_its_findings(bad_package):
    report = analyze(bad_package, target="iPhone 14")
    assert found(report) == [
        ("A01", "error", "windows"),
        ("A03", "error", "island"),
        ("A07", "error", None),
        ("A15", "error", "product"),
        ("P02", "error", None),
        ("A04", "warning", "into"),
        ("A04", "warning", "out_of"),
    ]
    off = {row.operation: row.rules for row in report.placements if row.placement == "off"}
    assert off == {
        "into": ("A03", "A04"),
        "island": ("A03",),
        "out_of": ("A03", "A04"),
        "windows": ("A01",),
        "prompt": ("A07",),
        "product": ("A15",),
    }
    assert report.worst() == "error"
    assert report.totals.layout_operations == 3  # two casts, one reshape


def test_the_segments_of_a_bad_package_carry_what_crosses(bad_package):
    segments = analyze(bad_package, target="A15").segments
    image = 128 * 64 * 64 * 2
    ane = [segment for segment in segments if segment.on_ane]
    assert [(s.first, s.last, s.bytes_in, s.bytes_out) for s in ane] == [
        ("features", "features", image, image),
        ("back", "back", image, image),
    ]


def test_measured_ranges_add_findings(conv_package):
    reached = analyze(conv_package, target="H13", ranges={"features": 40000.0})
    assert ("N04", "error", "features") in found(reached)
    assert ("N04", "error", "features") not in found(analyze(conv_package, target="H13", ranges={"features": 400.0}))


def test_ranges_are_read_from_a_parity_report_per_component():
    document = {
        "ranges": [
            {"operation": "a", "magnitude": 3.0, "component": "encoder"},
            {"operation": "a", "magnitude": 5.0, "component": "encoder"},
            {"operation": "b", "magnitude": None, "component": "encoder"},
            {"operation": "a", "magnitude": 9.0, "component": "decoder"},
        ]
    }
    assert read_ranges(document, "encoder") == {"a": 5.0, "b": math.inf}
    assert read_ranges(document) == {"a": 9.0, "b": math.inf}
    with pytest.raises(UsageError, match="no ranges in the document"):
        read_ranges({"rows": []})
    with pytest.raises(UsageError, match="has no 'operation'"):
        read_ranges([{"magnitude": 1.0}])


def test_compressed_weights_count_by_what_they_unpack_to(tmp_path):
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[fp16(1, 64, 1, 32)], opset_version=ct.target.iOS18)
    def program(x):
        indices = np.zeros((64, 64, 1, 1), np.uint8).astype(ct.converters.mil.mil.types.np_uint4_dtype)
        lut = np.arange(16, dtype=np.float16).reshape(1, 1, 1, 1, 16, 1)
        return mb.conv(x=x, weight=mb.constexpr_lut_to_dense(indices=indices, lut=lut), name="y")

    path = save(program, tmp_path / "lut.mlpackage", minimum_deployment_target=ct.target.iOS18)
    totals = analyze(path, target="H14").totals
    assert totals.operations == 1
    assert totals.parameters == 64 * 64
    assert totals.weight_bytes == 64 * 64 // 2 + 16 * 2
    assert totals.compressed_share == 1


def summary(report: AneReport) -> dict[str, dict[str, object]]:
    """Return severity and count by rule."""
    counts = Counter((finding.rule, finding.severity) for finding in report.findings)
    return {f"{rule} {severity}": count for (rule, severity), count in sorted(counts.items())}


@pytest.mark.parametrize("component", ["encoder", "decoder"])
def test_our_export_has_the_reviewed_findings(edge_sam_packages, component):
    artifact = next(file for file in edge_sam_packages if file.component == component)
    report = analyze(artifact.path)
    golden = json.loads((GOLDENS / f"analysis_{component}.json").read_text(encoding="utf-8"))
    assert summary(report) == golden["findings"]
    assert [segment.on_ane for segment in report.segments] == golden["segments"]


def test_findings_name_the_torch_module_that_the_export_recorded(edge_sam_packages):
    report = analyze(edge_sam_packages[0].path, target="H14")
    modules = {finding.op_type: finding.module for finding in report.findings if finding.operation}
    assert modules["layer_norm"].startswith("image_encoder.neck")
    assert all(finding.module for finding in report.findings if finding.operation)


@pytest.mark.parametrize("target", ["H13", "H14", "H15", "H16", "H17", "H18"])
def test_our_exports_have_no_error_and_one_segment_for_the_ane(edge_sam_packages, target):
    for artifact in edge_sam_packages:
        report = analyze(artifact.path, target=target)
        assert report.worst() != "error", found(report)
        assert sum(segment.on_ane for segment in report.segments) == 1


def test_an_operation_that_reads_two_results_of_one_other_is_analysed_and_all_after_it(tmp_path):
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[fp16(1, 4, 8, 8)], opset_version=ct.target.iOS17)
    def program(x):
        first, second = mb.split(x=mb.relu(x=x), num_splits=2, axis=1)
        return mb.sigmoid(x=mb.matmul(x=first, y=second, name="product"), name="out")

    report = analyze(save(program, tmp_path / "split.mlpackage"), target="H14")
    assert report.totals.multiply_adds == 2 * 8 * 8 * 8
    assert sum(segment.operations for segment in report.segments) == report.totals.operations == 4
    assert report.costs
