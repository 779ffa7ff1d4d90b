"""What 4-bit weights cost a model and what training wins back: mIoU of exported packages, run by the executor.

``edge_sam_tiny`` as it is, with ``coreml --compress SCHEME``, and so again after ``distill --stage recover``. All that
happens goes through the command line, as a user would do it. Differences to the model as it is are taken object by
object, so that how objects differ among each other does not hide them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine

TARGET = Path(__file__).parent / "recovery.json"
MODEL = "edge_sam_tiny"
PROMPTS = ("box", "point", "point+2")


def main() -> None:
    """Export, compress, recover, evaluate each, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schemes", default="palettize4,linear4", help="comma-separated")
    parser.add_argument("--schedule", default="512:4:150")
    parser.add_argument("--learning-rate", default="0.0001")
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes")
    parser.add_argument("--checkpoint", help="weights to start from; default: the bundled ones")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(2), "date": time.strftime("%Y-%m-%d"), "rows": [], **vars(options)}
    weights = ("--checkpoint", options.checkpoint) if options.checkpoint else ()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def add(title: str, export: tuple[str, ...]) -> None:
            row = {"title": title, **judge(folder / title.replace(" ", "_"), options.scenes, export)}
            found["rows"].append(row)
            print(table_row(row, found["rows"][0]), flush=True)

        print(table_head())
        add("FP16", weights)
        for scheme in options.schemes.split(","):
            # Blocks of four bits are read from iOS 18 on.
            compress = ("--compress", scheme, *(("--target", "iOS18") if scheme == "linear4" else ()))
            add(f"{scheme} compressed", (*weights, *compress))
            run = folder / f"{scheme}_run"
            start = time.perf_counter()
            command("distill", MODEL, "--stage", "recover", "--compress", scheme, *weights, "--schedule",
                    options.schedule, "--learning-rate", options.learning_rate, "--objects", "2", "--rounds", "1",
                    "--warmup", "20", "--data", "scenes:90", "--output", str(run))  # fmt: skip
            found[f"{scheme}_seconds"] = time.perf_counter() - start
            add(f"{scheme} recovered", ("--checkpoint", str(run / f"{MODEL}.safetensors"), *compress))
    TARGET.write_text(json.dumps(found, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def judge(folder: Path, scenes: int, options: tuple[str, ...]) -> dict[str, Any]:
    """Return bytes of an export's weights, and the IoU of every object by prompt."""
    exported = json.loads(command("coreml", MODEL, *options, "--no-verify", "--output", str(folder)))
    paths = [Path(artifact["path"]) for artifact in exported["artifacts"]]
    details = folder / "eval.json"
    data = ("--data", f"scenes:1000:{scenes}", "--prompts", ",".join(PROMPTS))
    command("eval", *map(str, paths), *data, "--output", str(details))
    (subject,) = json.loads(details.read_bytes())["subjects"].values()
    size = sum(member.stat().st_size for path in paths for member in path.rglob("weight.bin"))
    return {"weight_bytes": size} | {
        prompt: [round(one["iou"][prompt], 5) for one in subject["objects"]] for prompt in PROMPTS
    }


def command(*words: str) -> str:
    """Run the command line; return what it prints."""
    arguments = [sys.executable, "-m", "edgesam_export.cli", *words, "--json", "--quiet"]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout


def table_head() -> str:
    """Return the first lines of the table of docs/distillation.md."""
    return f"| | weights | {' | '.join(PROMPTS)} |\n|---|---|{'---|' * len(PROMPTS)}"


def table_row(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Return a line of the table: mean, and the mean difference to the first row with its standard error."""
    cells = []
    for prompt in PROMPTS:
        text = f"{statistics.mean(row[prompt]):.3f}"
        if row is not first:
            moved = [here - there for here, there in zip(row[prompt], first[prompt], strict=True)]
            error = statistics.stdev(moved) / len(moved) ** 0.5
            text += f" ({statistics.mean(moved):+.4f} ± {error:.4f})"
        cells.append(text)
    return f"| {row['title']} | {row['weight_bytes'] / 1e6:.2f} MB | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
