"""Stands in for xcrun, xcodebuild, codesign and xcode-select; it is copied under these names into a folder of PATH.

What it answers is in ``scenario.json`` beside it; every call is added to ``calls.ndjson``. Standard library only.
Replies are looked up by the command's words up to its first option; those of a list are used up one after the other,
the last one for ever:
    {"json": document or null, "raw": text, "exit": 0, "stdout": "", "stderr": "", "sleep_s": 0, "ignore_term": false}
Without a reply, ``copy``, ``launch``, ``processes`` and ``terminate`` act on the folder "container", in which the app
does what "statuses", "partial" and "result" say, with the ids of the request that was pushed.
"""

import hashlib
import json
import os
import plistlib
import shutil
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCENARIO = json.loads((HERE / "scenario.json").read_text())
TOOL, ARGV = Path(sys.argv[0]).name, sys.argv[1:]
PREFIX = "DEVICECTL_CHILD_"


def option(name):
    return ARGV[ARGV.index(name) + 1] if name in ARGV else None


def words():
    found = []
    for word in ARGV:
        if word.startswith("-"):
            break
        found.append(word)
    return found


def key():
    if TOOL != "xcrun":
        return " ".join([TOOL, *words()])
    found = words()[1:]
    return " ".join(found[:2] if found[:1] == ["list"] else found[:3]) or "version"


def next_reply(name):
    replies = SCENARIO.get("replies", {}).get(name)
    if replies is None:
        return None
    counter = HERE / (name.replace(" ", "_") + ".count")
    count = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(count + 1))
    return replies[min(count, len(replies) - 1)]


def envelope(result=None, error=None):
    outcome = "failed" if error else "success"
    document = {"info": {"jsonVersion": 2, "outcome": outcome, "version": "477.29"}}
    return document | ({"error": error} if error else {"result": result or {}})


def core_error(code, text):
    return {
        "domain": "com.apple.dt.CoreDeviceError",
        "code": code,
        "userInfo": {"NSLocalizedDescription": {"string": text}},
    }


def act(name):
    """Do what a device would do; return JSON and exit status."""
    container = Path(SCENARIO["container"])
    running = container / ".running"
    if name == "device copy to":
        shutil.copytree(option("--source"), container / option("--destination"), dirs_exist_ok=True)
        return envelope({}), 0
    if name == "device copy from":
        source = container / option("--source")
        statuses = next_reply("statuses") if source.name == "status.json" and running.exists() else None
        if statuses is not None:
            app_goes_on(source.parent, statuses)
        if not source.is_file():
            return envelope(error=core_error(7000, "The file does not exist")), 1
        shutil.copyfile(source, option("--destination"))
        return envelope({}), 0
    if name == "device process launch":
        running.write_text("4242")
        return envelope({"process": {"executable": "file:///a/EdgeSAMBench", "processIdentifier": 4242}}), 0
    if name == "device info processes":
        listed = [{"executable": "file:///sbin/launchd", "processIdentifier": 1}]
        if running.exists():
            listed.append({"executable": "file:///a/EdgeSAMBench.app/EdgeSAMBench", "processIdentifier": 4242})
        return envelope({"runningProcesses": listed}), 0
    if name == "device process terminate":
        if not running.exists():
            return envelope(error={"domain": "NSPOSIXErrorDomain", "code": 3, "userInfo": {}}), 1
        running.unlink()
    return envelope({}), 0


def app_goes_on(out, status):
    """Write what the app would: heartbeat, finished cases and, when it is done, the result."""
    out.mkdir(parents=True, exist_ok=True)
    request = json.loads((out.parent / out.name.replace("-out-", "-in-") / "request.json").read_text())
    known = {"run_id": request["run_id"], "nonce": request["nonce"]}
    (out / "partial.ndjson").write_text("".join(json.dumps(case) + "\n" for case in SCENARIO.get("partial", [])))
    if status.pop("crash", False):
        (Path(SCENARIO["container"]) / ".running").unlink()
    if status["phase"] == "done":
        content = json.dumps(SCENARIO["result"] | known).encode()
        (out / "result.json").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        status["result"] = {"file": "result.json", "bytes": len(content), "sha256": digest}
    (out / "status.json").write_text(json.dumps(status | known))
    if status["phase"] == "done":  # the app removes what was pushed
        pushed = out.parent / out.name.replace("-out-", "-in-")
        names = sorted(str(path.relative_to(pushed)) for path in pushed.rglob("*") if path.is_file())
        (HERE / "pushed.json").write_text(json.dumps(names))
        shutil.rmtree(pushed)


def build():
    app = Path(option("-derivedDataPath")) / "Build/Products/Release-iphoneos/EdgeSAMBench.app"
    app.mkdir(parents=True, exist_ok=True)
    identifier = next(
        (a.split("=")[1] for a in ARGV if a.startswith("PRODUCT_BUNDLE_IDENTIFIER=")), "com.example.Bench"
    )
    (app / "Info.plist").write_bytes(plistlib.dumps({"CFBundleIdentifier": identifier}))


def main():
    child = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    with (HERE / "calls.ndjson").open("a") as stream:
        stream.write(json.dumps({"tool": TOOL, "argv": ARGV, "environment": child}) + "\n")
    name = key()
    reply = next_reply(name)
    if reply is None:
        reply = {}
        if TOOL == "xcrun" and name != "version":
            document, status = act(name)
            reply = {"json": document, "exit": status}
        elif TOOL == "xcodebuild" and "-version" not in ARGV:
            build()
    if reply.get("ignore_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if reply.get("sleep_first"):
        time.sleep(reply["sleep_first"])
    sys.stdout.write(reply.get("stdout", ""))
    sys.stderr.write(reply.get("stderr", ""))
    path = option("--json-output")
    if path and "raw" in reply:
        Path(path).write_text(reply["raw"])
    elif path and reply.get("json") is not None:
        Path(path).write_text(json.dumps(reply["json"]))
    sys.stdout.flush()
    time.sleep(reply.get("sleep_s", 0))
    return reply.get("exit", 0)


sys.exit(main())
