"""What a click on the page takes, from the request to the last byte of the masks, after the image was encoded.

Bars, on two idle cores: 150 ms for edge_sam_tiny, 300 ms for edge_sam. ``--exports`` keeps the exports for a next run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "serve")]

from measuring import machine  # noqa: E402
from running_server import Client, running  # noqa: E402

from edgesam_export.families import load_model  # noqa: E402
from edgesam_export.formats import find_format  # noqa: E402
from edgesam_export.rendering import markdown_table  # noqa: E402
from edgesam_export.resources import SAMPLES  # noqa: E402
from edgesam_export.serve.backends import find_backends  # noqa: E402

PAGE = ROOT / "docs" / "serve.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
MODELS = {"edge_sam_tiny": None, "edge_sam": 0}
"""Model -> seed of random weights, None for the bundled ones; times do not depend on the weights."""
SAMPLE = SAMPLES / "coffee.jpg"
HEADINGS = ("model", "backend", "click, median", "range", "of it decoder", "first encoding")


def exports(folder: Path) -> Path:
    """Return the folder with both formats of each model, made unless they are there."""
    for name, seed in MODELS.items():
        for format in ("coreml", "onnx"):
            target = folder / f"{name}-{format}"
            if not target.is_dir():
                exporter = find_format(format)
                exporter.export(load_model(name, random_weights=seed), target, exporter.config())
    return folder


def asked(client: Client, path: str, **document: Any) -> tuple[dict[str, Any], float]:
    """Return the result of a request, and the milliseconds until it was there."""
    start = time.perf_counter()
    line = client.post(path, document)[1]
    return line["result"], (time.perf_counter() - start) * 1000


def main() -> None:
    """Click in turn on every backend; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--exports", type=Path, help="Folder of the exports; made if they are not there.")
    parser.add_argument("--export-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = exports(options.exports or Path(temporary))
        if options.export_only:
            return
        with running(find_backends([folder])) as client:
            token = client.upload(SAMPLE.read_bytes())[1]["image"]
            chosen = [name for name in client.server.backends if not name.endswith(("/ane", "/fp32"))]
            encoding = {}
            for backend in chosen:
                encoding[backend] = asked(client, "/api/encode", image=token, backend=backend)[0]["encode_ms"]
            times: dict[str, list[tuple[float, float]]] = {backend: [] for backend in chosen}
            for number in range(options.rounds + 1):
                for backend in chosen:
                    point = [250 + 5 * number, 200, 1]
                    result, elapsed = asked(client, "/api/predict", image=token, backend=backend, points=[point])
                    times[backend].append((elapsed, result["answers"][0]["decode_ms"]))
    rows = []
    for backend, pairs in times.items():
        clicks, decoders = zip(*pairs[1:])
        model, _, way = backend.partition("/")
        spread = f"{min(clicks):.0f} to {max(clicks):.0f} ms"
        figures = (f"{statistics.median(clicks):.0f} ms", spread, f"{statistics.median(decoders):.0f} ms")
        rows.append((model, way, *figures, f"{encoding[backend]:.0f} ms"))
    table = markdown_table(HEADINGS, rows, right=range(2, len(HEADINGS)))
    print(machine(2), table, json.dumps({"rounds": options.rounds}), sep="\n")
    setting = (
        f"One click on a photograph of 600 x 400 pixels, from the request to the last byte of four masks, on two idle\n"
        f"cores, medians of {options.rounds} (`make serve-bench`):"
    )
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    text = f"{before}{BEGIN}\n{setting}\n\n{table.strip()}\n{END}{rest.partition(END)[2]}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
