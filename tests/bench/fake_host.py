"""Stands in for edgesam-bench-host: writes the documents of ``plan.json`` beside it. Standard library only.

{"statuses": [...], "files": {name: text}, "stderr": "", "exit": 0, "wait_s": 0}
"""

import json
import os
import sys
import time
from pathlib import Path

PLAN = json.loads((Path(__file__).resolve().parent / "plan.json").read_text())
ARGV = sys.argv[1:]
documents, run_id = Path(ARGV[ARGV.index("--documents") + 1]), ARGV[ARGV.index("--run-id") + 1]
assert (documents / f"edgesam-in-{run_id}" / "request.json").is_file()
out = documents / f"edgesam-out-{run_id}"
out.mkdir()
for name, text in PLAN.get("files", {}).items():
    (out / name).write_text(text)
for document in PLAN.get("statuses", []):
    (out / "status.tmp").write_text(json.dumps(document))
    os.replace(out / "status.tmp", out / "status.json")
seen = {name: os.environ.get(name) for name in ("EDGESAM_BENCH_RUN_ID", "EDGESAM_PYTHON")}
(out / "environment.json").write_text(json.dumps(seen))
sys.stderr.write(PLAN.get("stderr", ""))
sys.stderr.flush()
time.sleep(PLAN.get("wait_s", 0))
sys.exit(PLAN.get("exit", 0))
