"""What 4-bit weights cost a model and what training wins back: mIoU of three exported packages, run by the executor.

``edge_sam_tiny`` as it is, with ``coreml --compress SCHEME``, and so again after ``distill --stage recover``. All that
happens goes through the command line, as a user would do it.
"""

from __future__ import annotations

import argparse
import json
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
ROWS = (("FP16", "before"), ("compressed", "compressed"), ("recovered", "recovered"))


def main() -> None:
    """Export, compress, recover, judge each, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", default="palettize4")
    parser.add_argument("--schedule", default="512:2:300")
    parser.add_argument("--learning-rate", default="0.0003")
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes")
    parser.add_argument("--checkpoint", help="weights to start from; default: the bundled ones")
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(2), "date": time.strftime("%Y-%m-%d"), "rows": {}, **vars(options)}
    weights = ("--checkpoint", options.checkpoint) if options.checkpoint else ()
    compress = ("--compress", options.scheme)
    if options.scheme == "linear4":
        compress += ("--target", "iOS18")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found["rows"]["before"] = judge(folder / "before", options.scenes, weights)
        found["rows"]["compressed"] = judge(folder / "compressed", options.scenes, (*weights, *compress))
        start = time.perf_counter()
        command("distill", MODEL, "--stage", "recover", *compress[:2], *weights, "--schedule", options.schedule,
                "--learning-rate", options.learning_rate, "--objects", "2", "--rounds", "1", "--data", "scenes:90",
                "--output", str(folder / "run"))  # fmt: skip
        found["seconds"] = time.perf_counter() - start
        recovered = ("--checkpoint", str(folder / "run" / f"{MODEL}.safetensors"))
        found["rows"]["recovered"] = judge(folder / "recovered", options.scenes, (*recovered, *compress))
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    print(table(found))


def judge(folder: Path, scenes: int, options: tuple[str, ...]) -> dict[str, Any]:
    """Return bytes of an export's weights and its mIoU by prompt, with standard errors."""
    exported = json.loads(command("coreml", MODEL, *options, "--no-verify", "--output", str(folder)))
    paths = [Path(artifact["path"]) for artifact in exported["artifacts"]]
    data = ("--data", f"scenes:1000:{scenes}", "--prompts", ",".join(PROMPTS))
    report = json.loads(command("eval", *map(str, paths), *data))
    (subject,) = report["subjects"].values()
    result = {name: subject["results"][name] for name in PROMPTS}
    size = sum(member.stat().st_size for path in paths for member in path.rglob("weight.bin"))
    found = {name: [row["miou"], row["standard_error"]] for name, row in result.items()}
    print(folder.name, size, found, flush=True)
    return {"weight_bytes": size, "objects": result["box"]["objects"], **found}


def command(*words: str) -> str:
    """Run the command line; return what it prints."""
    arguments = [sys.executable, "-m", "edgesam_export.cli", *words, "--json", "--quiet"]
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout


def table(found: dict[str, Any]) -> str:
    """Return the table of docs/distillation.md."""
    lines = [f"| {found['scheme']} | weights | {' | '.join(PROMPTS)} |", f"|---|---|{'---|' * len(PROMPTS)}"]
    for title, name in ROWS:
        row = found["rows"][name]
        cells = " | ".join(f"{row[prompt][0]:.3f} ± {row[prompt][1]:.3f}" for prompt in PROMPTS)
        lines.append(f"| {title} | {row['weight_bytes'] / 1e6:.2f} MB | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
