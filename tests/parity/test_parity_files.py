"""A user's own prompts, gates and baseline: what the files may hold, what is refused, and what then fails."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from edgesam_export.errors import EdgeSAMExportWarning, SchemaError, UsageError
from edgesam_export.parity.bar import Bar, read_bar
from edgesam_export.parity.baseline import against_baseline
from edgesam_export.parity.gate_file import read_gates
from edgesam_export.parity.gates import DEFAULT_GATES, Check, Gate
from edgesam_export.parity.instances import inner_point, mask_of
from edgesam_export.parity.outputs import Pair, measure
from edgesam_export.parity.prompt_file import read_prompts
from edgesam_export.parity.render.json import load_report
from edgesam_export.parity.render.json import render as to_json
from edgesam_export.parity.render.summary import gate_lines
from edgesam_export.parity.report import ParityReport, ParityRow


def written(folder, content, name="prompts.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# ----------------------------------------------------------------------------------------------------------- prompts


OWN = [
    {"image": "a.png", "points": [[3, 4]]},
    {"image": "a.png", "points": [[3, 4], [5, 6]], "labels": [1, 0]},
    {"image": "a.png", "box": [1, 2, 9, 8]},
    {"image": "b.png", "box": [1, 2, 9, 8], "points": [[5, 5]], "name": "the cup"},
    {"image": "b.png", "points": [[5.5, 5]], "mask": True},
]


def test_prompts_of_our_own_schema(tmp_path):
    found = read_prompts(written(tmp_path, {"prompts": OWN})).by_image
    assert [(p.kind, p.label, p.points, p.labels, p.box) for p in found["a.png"]] == [
        ("point", "point", ((3, 4),), (1,), None),
        ("points", "points", ((3, 4), (5, 6)), (1, 0), None),
        ("box", "box", (), (), (1, 2, 9, 8)),
    ]
    assert [(p.kind, p.label) for p in found["b.png"]] == [("box+point", "the cup"), ("mask", "mask")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "neither 'prompts' nor COCO's 'annotations'"),
        ({"prompts": {}}, "'prompts' is no list of objects"),
        ({"prompts": []}, "holds no prompt"),
        ({"prompts": [{"image": "a", "point": [1, 2]}]}, "prompt 0 has the unknown field 'point'"),
        ({"prompts": [{"points": [[1, 2]]}]}, "prompt 0: 'image' is None"),
        ({"prompts": [{"image": "a"}]}, "prompt 0 has 0 points, box None"),
        ({"prompts": [{"image": "a", "points": [[1]]}]}, r"'point' is \[1\]; give 2 numbers"),
        ({"prompts": [{"image": "a", "points": [[1, True]]}]}, "give 2 numbers"),
        ('{"prompts": [{"image": "a", "points": [[1, NaN]]}]}', "give 2 numbers"),
        ({"prompts": [{"image": "a", "points": [[1, 2]], "labels": [2]}]}, "labels .2. for 1 points"),
        ({"prompts": [{"image": "a", "points": [[1, 2]], "labels": []}]}, "for 1 points"),
        ({"prompts": [{"image": "a", "box": [5, 5, 5, 9]}]}, "is empty; give x0, y0, x1, y1"),
        ({"prompts": [{"image": "a", "box": [0, 0, 5, 9], "mask": True}]}, "a mask goes with points alone"),
        ({"prompts": [OWN[2], OWN[2]]}, "two prompts called 'box'; give each a 'name'"),
        ({"annotations": [], "images": [{"id": 1}]}, "image 0 has no 'id' or no 'file_name'"),
        ({"annotations": [{"image_id": 3}], "images": []}, "image_id 3 is no image"),
        (
            {"annotations": [{"image_id": 1, "bbox": [1, 2, 3]}], "images": [{"id": 1, "file_name": "a"}]},
            "'bbox' is .1, 2, 3.; give 4 numbers",
        ),
    ],
)
def test_a_file_that_is_no_prompts_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_prompts(written(tmp_path, content))
    assert "\n" not in str(caught.value) and "prompts.json" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"gone.json' cannot be read: No such file"):
        read_prompts(tmp_path / "gone.json")


def coco(*annotations):
    return {"images": [{"id": 7, "file_name": "a.png", "height": 40, "width": 60}], "annotations": list(annotations)}


def test_coco_instances_give_a_box_and_a_point_inside_the_mask(tmp_path):
    ring = [10, 10, 50, 10, 50, 30, 10, 30]
    found = read_prompts(
        written(
            tmp_path,
            coco(
                {"id": 1, "image_id": 7, "bbox": [10, 10, 40, 20], "segmentation": [ring]},
                {"id": 2, "image_id": 7, "bbox": [1, 1, 0, 5]},
                {"id": 3, "image_id": 7, "iscrowd": 1, "segmentation": {"counts": "x", "size": [1, 1]}},
                {"id": 4, "image_id": 7, "segmentation": {"counts": [40 * 20, 40 * 5, 40 * 35], "size": [40, 60]}},
            ),
        )
    ).by_image["a.png"]
    assert [p.label for p in found] == ["box 1", "point 1", "box 4", "point 4"]
    assert found[0].box == (10, 10, 50, 30) and found[2].box == (20, 0, 25, 40)
    (x, y), (right, low) = found[1].points[0], found[3].points[0]
    assert 18 <= x <= 42 and 18 <= y <= 22 and right == 22 and 2 <= low <= 37


def test_images_that_coordinates_may_not_be_of_are_warned_of(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png", exif=exif)
    with pytest.warns(
        EdgeSAMExportWarning, match=r"a\.png: is stored turned .* 40x60; coordinates are those of"
    ) as seen:
        read_prompts(written(tmp_path, coco({"image_id": 7, "bbox": [1, 1, 5, 5]}))).images(None)
    assert len(seen) == 1
    Image.new("RGB", (120, 80)).save(tmp_path / "a.png")
    with pytest.warns(EdgeSAMExportWarning, match=r"a\.png: has 120x80 pixels, '.*prompts\.json' says 60x40") as seen:
        read_prompts(tmp_path / "prompts.json").images([tmp_path / "a.png"])
    assert len(seen) == 1


def test_compressed_run_lengths_are_those_of_pycocotools():
    coder = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(0).random((37, 53)) > 0.7
    mask[5:30, 8:40] = True
    encoded = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    found = mask_of({"size": [37, 53], "counts": encoded["counts"].decode()}, (None, None), "here")
    assert np.array_equal(found, mask)


@pytest.mark.parametrize(
    "segmentation",
    [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, "6"]], [5], "text", {"counts": [3]}, {"counts": [-1, 2401]}, {"counts": "zzz"}],
)
def test_masks_that_are_none_are_refused(segmentation):
    with pytest.raises(UsageError, match=r"^annotation 3: "):
        mask_of(segmentation, (40, 60), "annotation 3")


def test_masks_of_absurd_images_are_refused():
    with pytest.raises(UsageError, match="give height and width, 1 to 16384"):
        mask_of([[0, 0, 9, 0, 9, 9]], (10**9, 10**9), "here")


def test_the_inner_point_lies_in_the_mask_even_of_odd_shapes():
    rows, columns = np.mgrid[:200, :300]
    radius = np.hypot(rows - 100, columns - 150)
    for mask in (abs(radius - 80) < 6, columns == 17, (rows == 3) & (columns == 4), (rows + columns) % 7 == 0):
        x, y = inner_point(mask)
        assert mask[int(y), int(x)]
    x, y = inner_point(radius < 60)
    assert math.hypot(x - 150, y - 100) < 4


def test_images_are_those_beside_the_file_or_those_given(tmp_path):
    found = read_prompts(written(tmp_path, {"prompts": OWN}))
    assert found.images(None) == [("a.png", tmp_path / "a.png"), ("b.png", tmp_path / "b.png")]
    given = [tmp_path / "elsewhere" / "b.png", tmp_path / "a.png"]
    assert found.images(given) == [("b.png", given[0]), ("a.png", given[1])]
    with pytest.raises(UsageError, match=r"has no prompt for the image .*c.png'; its images: 'a.png', 'b.png'"):
        found.images([*given, tmp_path / "c.png"])
    with pytest.raises(UsageError, match=r"has prompts for 'a.png', which --image does not name"):
        found.images(given[:1])


# ------------------------------------------------------------------------------------------------------------- gates


def gates_of(tmp_path, text):
    return read_gates(written(tmp_path, text, "gates.toml"))


def test_a_gate_file_replaces_and_adds(tmp_path):
    found = gates_of(
        tmp_path,
        """
        [[gate]]
        output = "masks"
        metric = "visible_change"
        numerics = ["fp16", "ane"]
        maximum = 0.002
        [[gate]]
        output = "masks"
        metric = "mask_iou"
        numerics = "fp16"
        minimum = 0.98
        [baseline]
        visible_change = 0.001
        """,
    )
    kept = [gate for gate in DEFAULT_GATES if gate.metric != "visible_change"]
    own = [Gate(output="masks", metric="visible_change", numerics=n, maximum=0.002) for n in ("fp16", "ane")]
    iou = Gate(output="masks", metric="mask_iou", numerics="fp16", minimum=0.98)
    assert found.gates == (*kept, *own, iou)
    assert found.allowances["visible_change"] == 0.001 and found.allowances["score_error"] == 0.005
    lone = gates_of(tmp_path, 'defaults = false\n[[gate]]\noutput = "masks"\nmetric = "psnr_db"\nminimum = 30')
    assert [(g.metric, g.numerics, g.bound) for g in lone.gates] == [
        ("psnr_db", n, 30) for n in ("fp32", "fp16", "ane")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gate = 3", "every gate a table"),
        ("gates = []", "unknown key 'gates'"),
        ("defaults = false", "leaves no gate"),
        ("[[gate]]\noutput = 'masks'", "gate 0: give output, metric"),
        ("[[gate]]\noutput = 'masks'\nmetric = 'psnr_db'\nnumerics = 'fp8'\nminimum = 1", "numerics is 'fp8'"),
        ("[[gate]]\noutput = 'masks'\nmetric = 'sharpness'\nminimum = 1", "gate 0: .*no such metric"),
        ("[[gate]]\noutput = 'masks'\nmetric = 'psnr_db'", "either a minimum or a maximum"),
        ("[[gate]]\noutput = 'masks'\nmetric = 'psnr_db'\nminimum = '1'", "minimum or maximum a number"),
        ("[[gate]]\noutput = 'masks'\nmetric = 'psnr_db'\nminimum = nan", "either a minimum or a maximum"),
        ("[baseline]\nvisible_change = -1", "a number from 0 on"),
        ("[baseline]\nsharpness = 1", "has the metric 'sharpness'"),
    ],
)
def test_a_gate_file_that_sets_no_gate_is_refused(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        gates_of(tmp_path, text)


@pytest.mark.parametrize("bound", ["metric = 'psnr_db'\nmaximum = 80", "metric = 'visible_change'\nminimum = 0.01"])
def test_a_bound_that_passes_what_is_broken_is_refused(tmp_path, bound):
    with pytest.raises(UsageError, match=r"gate 0: .* is better, so give a (minimum|maximum)"):
        gates_of(tmp_path, f"[[gate]]\noutput = 'masks'\n{bound}")


def test_every_metric_is_bounded_on_its_good_side():
    same = np.random.default_rng(0).normal(size=(1, 2, 8, 8))
    equal, other = (measure("masks", Pair(expected=same, actual=side)) for side in (same, -same[..., ::-1]))
    for metric in set(equal) & set(other) - {"sign_margin"}:  # of equal signs there is no margin
        better = "minimum" if equal[metric] > other[metric] else "maximum"
        assert Gate(output="masks", metric=metric, numerics="fp32", **{better: 0.5}).bound == 0.5


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_windows_wrote_are_read(tmp_path, encoding):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"prompts": [{"image": "a.png", "points": [[1, 2]]}]}), encoding=encoding)
    assert list(read_prompts(path).by_image) == ["a.png"]
    report = tmp_path / "parity.json"
    report.write_text(to_json(report_of(0.5)), encoding=encoding)
    assert load_report(report).rows == report_of(0.5).rows
    gates = tmp_path / "gates.toml"
    gates.write_text(
        "defaults = false\r\n[[gate]]\r\noutput = 'masks'\r\nmetric = 'psnr_db'\r\nminimum = 1", "utf-8-sig"
    )
    assert len(read_gates(gates).gates) == 3


def test_a_gate_file_that_is_no_toml_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="is not TOML"):
        gates_of(tmp_path, "gate = [")


# ---------------------------------------------------------------------------------------------------------- baseline


CHANGE = Gate(output="masks", metric="visible_change", numerics="fp16", maximum=0.01)


def report_of(change, *, numerics="fp16", metric="visible_change", gate=CHANGE, model="edge_sam"):
    row = ParityRow(
        candidate=f"executor {numerics}",
        numerics=numerics,
        component="decoder",
        embeddings="own",
        image="cat.jpg",
        prompt="box",
        output="masks",
        shape=(1, 4, 256, 256),
        metrics={metric: change},
        checks=(Check(gate=replace(gate, numerics=numerics), value=change),),
    )
    return ParityReport(model=model, tool_version="1", reference="torch", artifacts=(), rows=(row,))


def test_only_what_became_worse_than_the_baseline_fails():
    for before, after, passes in ((0.03, 0.034, True), (0.03, 0.036, False), (0.0, 0.004, True), (0.0, 0.006, False)):
        report = against_baseline(report_of(after), report_of(before))
        assert report.passed is passes
        assert report.rows[0].checks[0].gate.maximum == pytest.approx(before + 0.005)


def test_a_report_against_a_baseline_has_one_line_for_a_gate_with_the_bound_of_its_worst_row():
    rows = report_of(0.004).rows + tuple(replace(row, image="other") for row in report_of(0.02).rows)
    both = replace(report_of(0.0), rows=rows)
    before = replace(both, rows=(rows[0], replace(rows[1], metrics={"visible_change": 0.011})))
    (line,) = gate_lines(against_baseline(both, before))
    assert (line.row.image, line.count, line.passed) == ("other", 2, False)
    assert line.gate.maximum == pytest.approx(0.016)


def test_a_minimum_is_lowered_by_what_is_allowed():
    psnr = Gate(output="masks", metric="psnr_db", numerics="fp16", minimum=50.0)
    options = {"metric": "psnr_db", "gate": psnr}
    assert against_baseline(report_of(41.0, **options), report_of(46.0, **options)).passed
    assert not against_baseline(report_of(39.0, **options), report_of(46.0, **options)).passed
    assert not against_baseline(report_of(46.0, **options), report_of(math.inf, **options)).passed, (
        "the gate's own bound"
    )


def test_exact_arithmetic_stays_absolute_whatever_the_baseline_was():
    psnr = Gate(output="masks", metric="psnr_db", numerics="fp32", minimum=80.0)
    exact = {"numerics": "fp32", "metric": "psnr_db", "gate": psnr}
    both = [replace(report_of(0.0), rows=report_of(0.0).rows + report_of(60.0, **exact).rows) for _ in range(2)]
    assert [row.passed for row in against_baseline(*both).rows] == [True, False]


def test_a_baseline_of_something_else_is_refused():
    with pytest.raises(UsageError, match="baseline is of mobile_sam, the files are of edge_sam"):
        against_baseline(report_of(0.0), report_of(0.0, model="mobile_sam"))
    with pytest.raises(UsageError, match="no output of the same candidate"):
        against_baseline(report_of(0.0), report_of(0.0, numerics="ane"))


# -------------------------------------------------------------------------------------------------- from the command


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """Two drawn images, COCO instances of them, and our own prompts."""
    folder = tmp_path_factory.mktemp("drawn")
    for name, colour in (("one.png", "red"), ("two.png", "blue")):
        image = Image.new("RGB", (160, 120), "white")
        ImageDraw.Draw(image).rectangle((40, 30, 110, 90), fill=colour)
        image.save(folder / name)
    corners = [40, 30, 110, 30, 110, 90, 40, 90]
    instances = {
        "images": [
            {"id": n, "file_name": f, "height": 120, "width": 160} for n, f in enumerate(("one.png", "two.png"))
        ],
        "annotations": [
            {"id": n, "image_id": n, "bbox": [40, 30, 70, 60], "segmentation": [corners], "category_id": 1}
            for n in range(2)
        ],
    }
    written(folder, instances, "instances.json")
    own = [{"image": name, "box": [40, 30, 110, 90], "name": "the square"} for name in ("one.png", "two.png")]
    written(folder, {"prompts": own}, "own.json")
    return folder


def test_the_command_takes_prompts_gates_and_a_baseline(command, exported, drawing, tmp_path):
    files = exported("edge_sam_tiny", "onnx")
    code, out, err = command("parity", files, "--prompts", drawing / "instances.json", "--output", tmp_path, "--quiet")
    assert code == 0, err
    report = json.loads((tmp_path / "parity.json").read_text())
    assert {(row["image"], row["prompt"]) for row in report["rows"] if row["prompt"]} == {
        (f"{name}.png", f"{kind} {n}") for n, name in enumerate(("one", "two")) for kind in ("box", "point")
    }
    strict = '[[gate]]\noutput = "masks"\nmetric = "psnr_db"\nnumerics = "fp32"\nminimum = 500'
    options = ("--prompts", drawing / "own.json", "--output", tmp_path / "strict", "--quiet")
    code, out, _ = command("parity", files, *options, "--gates", written(tmp_path, strict, "gates.toml"))
    assert code == 1 and ">= 500 dB" in out and "the square" in (tmp_path / "strict/parity.md").read_text()
    shutil.copy(tmp_path / "parity.json", tmp_path / "before.json")
    code, _, err = command("parity", files, *options, "--baseline", tmp_path / "before.json")
    assert code == 2 and "no output of the same candidate" in err and err.count("\n") == 1
    code, _, err = command("parity", files, *options, "--baseline", drawing / "own.json")
    assert code == 2 and "schema version" in err and err.count("\n") == 1


def test_a_prompt_outside_its_image_is_refused(model, exported, drawing, tmp_path):
    outside = [{"image": name, "points": [[500, 5]]} for name in ("one.png", "two.png")]
    for name in ("one.png", "two.png"):
        shutil.copy(drawing / name, tmp_path)
    bar = read_bar(prompts=written(tmp_path, {"prompts": outside}))
    with pytest.raises(UsageError, match=r"prompt 'point' of 'one.png' has 500, 5; the image has 160 x 120 pixels"):
        bar.check(model, exported("edge_sam_tiny", "onnx"), images=None)
    assert Bar().prompts is None
