"""Hostile requests: no file of the machine is read, strangers are refused, nothing grows, every answer is one line."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running_server import PATIENCE_S, Client, picture, running

import edgesam_export
from edgesam_export.runners import Decoded, Runner
from edgesam_export.serve.app import FOLDER
from edgesam_export.serve.backends import Backend
from edgesam_export.serve.security import HEADERS
from edgesam_export.spec import ImageFrame, ModelInfo

EVIL = "evil.example"
ENCODE = ("/api/encode", {"backend": "small/torch"})


# ------------------------------------------------------------------------------------------------- files and headers


def test_the_page_is_served_with_a_strict_policy(client):
    status, headers, content = client.ask("GET", "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(rb'(?:src|href)="([^"]+)"', content)
    assert {b"/main.js", b"/page.css", b"/icon.svg"} <= set(named)
    assert all(client.ask("GET", path.decode())[0] == 200 for path in named)
    for path, status in (("/", 200), ("/main.js", 200), ("/nothing", 404), ("/api/images/x", 410)):
        found, headers, _ = client.ask("GET", path)
        assert found == status and headers.items() >= HEADERS.items()
    policy = dict(part.strip().partition(" ")[::2] for part in HEADERS["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_the_page_needs_no_other_server():
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text and "eval(" not in text and "innerHTML" not in text, path.name
        assert not re.search(r'style="|<script>|onclick="', text), path.name


@pytest.mark.parametrize(
    "path",
    [
        "/../page.html",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/samples/../serve/app.py",
        "/samples/%2e%2e/serve/app.py",
        "//etc/passwd",
        "/etc/passwd",
        "/main.js/",
        "/main.js%00.css",
        "/page.html",
        "/.git/config",
        "/app.py",
        "/api/images/../../setup",
        "/api/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "http://evil.example/etc/passwd",
    ],
)
def test_no_path_leads_to_a_file_of_the_machine(client, path):
    status, _, content = client.ask("GET", path)
    assert status in (403, 404, 410) and set(json.loads(content)) == {"error", "code"}
    assert b"root:" not in content and str(Path(edgesam_export.__file__).parent).encode() not in content


@pytest.mark.parametrize("name", ["x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-sendfile", "range"])
def test_no_header_leads_to_another_answer(client, name):
    plain = client.ask("GET", "/main.js")[2]
    assert client.ask("GET", "/main.js", **{name: "/etc/passwd"})[2] == plain


@pytest.mark.parametrize("request_line", ["PUT /", "POST /", "DELETE /api/images/x", "GET /api/predict"])
def test_other_methods_are_refused(client, request_line):
    assert client.ask(*request_line.split())[0] in (404, 405)


# --------------------------------------------------------------------------------------------------------- strangers


def test_only_our_own_names_are_answered(client):
    for host in (
        f"127.0.0.1:{client.port}",
        f"localhost:{client.port}",
        f"[::1]:{client.port}",
        "LOCALHOST",
        "127.0.0.1",
    ):
        assert client.ask("GET", "/", host=host)[0] == 200, host
    for host in (
        EVIL,
        f"{EVIL}:{client.port}",
        f"localhost.{EVIL}",
        f"127.0.0.1.{EVIL}",
        "",
        "192.168.1.7",
        "[::1",
        "0.0.0.0",
    ):
        status, headers, content = client.ask("GET", "/api/setup", host=host)
        assert status == 403 and b"not called" in content and headers.items() >= HEADERS.items(), host
    assert client.ask("GET", "/api/setup", host=None)[0] == 400, "HTTP/1.1 asks for one"


def test_a_server_for_all_is_known_by_addresses_and_its_own_name(serving):
    client = serving(host="0.0.0.0")
    own = socket.gethostname().partition(".")[0]
    for host in (
        "192.168.1.7:80",
        "[fe80::1]:80",
        "localhost",
        socket.gethostname(),
        own,
        f"{own}.local:80",
        f"{own}.local.",
    ):
        assert client.ask("GET", "/", host=host)[0] == 200, host
    for host in (EVIL, f"192.168.1.7.{EVIL}", f"{own}.{EVIL}", f"{own}.local.{EVIL}", f"other-{own}.local", "", "."):
        assert client.ask("GET", "/", host=host)[0] == 403, host


def test_pages_of_strangers_cannot_send_anything(client):
    own = f"127.0.0.1:{client.port}"
    asked = {"image": client.image(), "backend": "small/torch"}
    for headers in (
        {"origin": f"http://{EVIL}"},
        {"origin": "null"},
        {"origin": f"http://localhost:{client.port}"},
        {"origin": f"http://{own}.{EVIL}"},
        {"origin": f"http://{own}", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ):
        status, answer = client.post("/api/encode", asked, **headers)
        assert status == 403 and "open the address" in answer["error"], headers
    assert client.post("/api/encode", asked, origin=f"http://{own}", sec_fetch_site="same-origin")[0] == 200
    assert client.post("/api/encode", asked)[0] == 200, "not a browser"
    _, headers, _ = client.ask("OPTIONS", "/api/encode", origin=f"http://{EVIL}", access_control_request_method="POST")
    assert not [name for name in headers if name.startswith("access-control")]
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""):
        body = json.dumps(asked).encode()
        assert client.ask("POST", "/api/encode", body, content_type=kind)[0] == 415, kind
        assert client.ask("POST", "/api/images", body, content_type=kind)[0] == 415, kind


# ------------------------------------------------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("/api/predict", {"points": "x"}, "'points' is \"x\"; send a list"),
        ("/api/predict", {"points": [[1, 2]]}, "not all [x, y, label]"),
        ("/api/predict", {"points": [[1, 2, 2]]}, "not all [x, y, label]"),
        ("/api/predict", {"points": [[1, True, 1]]}, "not all [x, y, label]"),
        ("/api/predict", {"points": [[float("nan"), 2, 1]]}, "not all [x, y, label]"),
        ("/api/predict", {"points": [[10**400, 2, 1]]}, "not all [x, y, label]"),
        ("/api/predict", {"points": [[1, 2, 1]] * 65}, "65 points; a prompt has at most 64"),
        ("/api/predict", {"box": [1, 2, 3]}, "'box' is [1, 2, 3]"),
        ("/api/predict", {"box": {"a": "b" * 200}}, "…; send four finite numbers"),
        ("/api/predict", {"against": "none"}, "'against' is 'none'; choose one of: small/torch"),
        ("/api/predict", {"backend": "../torch"}, "'backend' is '../torch'; choose one of"),
        ("/api/predict", {"backend": 7}, "'backend' is 7; send a text"),
        ("/api/predict", {"image": None}, "'image' is null; send a text"),
        ("/api/everything", {"grid": 0}, "'grid' is 0; send an integer from 1 to 64"),
        ("/api/everything", {"grid": 65}, "'grid' is 65"),
        ("/api/everything", {"grid": 2.0}, "'grid' is 2.0"),
        ("/api/everything", {"min_score": 1.5}, "'min_score' is 1.5; send a number from 0 to 1"),
        ("/api/everything", {"min_area": -1}, "'min_area' is -1"),
        ("/api/download", {"kind": "passwd"}, "'kind' is 'passwd'; choose one of: mask"),
        ("/api/download", {"kind": "mask"}, "'candidate' is null"),
        ("/api/download", {"kind": "mask", "candidate": 4, "points": [[1, 2, 1]]}, "candidate is 4; there are 4"),
        ("/api/download", {"kind": "mask", "candidate": 0}, "no prompt: give at least one"),
    ],
)
def test_values_that_cannot_be_are_named(client, path, change, words):
    status, answer = client.post(path, {"image": client.image(), "backend": "small/torch", **change})
    assert status == 400 and words in answer["error"] and "\n" not in answer["error"]
    assert answer["code"] == "refused"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "no prompt: give at least one point"),
        ({"points": [[60, 2, 1]]}, "point (60, 2) is outside the image of 60x40 pixels"),
        ({"points": [[-1, 2, 1]]}, "point (-1, 2) is outside"),
        ({"box": [9, 9, 3, 3]}, "is reversed or empty"),
        ({"box": [0, 0, 61, 40]}, "is outside the image"),
    ],
)
def test_prompts_that_cannot_be_end_the_stream_with_a_line(client, prompt, words):
    status, line = client.post("/api/predict", {"image": client.image(), "backend": "small/torch", **prompt})
    assert status == 200 and words in line["error"] and line["code"] == "refused"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 60_000, b'{"image": 1e999}', b'"x"'])
def test_bodies_that_are_no_object(client, body):
    status, answer = client.post("/api/predict", body)
    assert status == 400 and answer["code"] == "refused" and len(answer["error"]) < 200


def test_bodies_beyond_the_limit_are_read_no_further(serving):
    client = serving(request_bytes=1000, upload_bytes=2000)
    assert client.post("/api/predict", {"image": "x" * 1000})[0] == 413
    assert client.upload(b"x" * 2001)[0] == 413
    for size in ("999999999999", "-1", "1e9"):
        with socket.create_connection((client.host, client.port), PATIENCE_S) as connection:
            head = f"POST /api/images HTTP/1.1\r\nHost: {client.host}\r\nContent-Type: application/octet-stream\r\n"
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            assert connection.recv(100).split()[1] in (b"413", b"400")
    with socket.create_connection((client.host, client.port), PATIENCE_S) as connection:  # endless, of no stated length
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"400\r\n" + b"x" * 1024 + b"\r\n")
        connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert connection.recv(100).split()[1] == b"413"
    assert client.server.sessions.kept == {}


# ------------------------------------------------------------------------------------------------------------ images


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image that can be read"),
        (b"\x89PNG\r\n\x1a\n", "not an image that can be read"),
        (encoded(picture(), "PNG")[:900], "damaged or cut short"),
        (bomb(10_001, 10_000), "larger than 100 megapixels"),
        (bomb(2**31 - 1, 2**31 - 1), "image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image that can be read"),
        (encoded(picture(), "ICO"), "not an image that can be read"),
    ],
    ids=["empty", "text", "head", "cut", "100 megapixels", "gigapixels", "SVG", "PostScript", "ICO"],
)
def test_files_that_are_no_image_are_refused(client, content, words):
    before = list(client.server.sessions.kept)
    status, answer = client.upload(content)
    assert status == 400 and words in answer["error"] and answer["code"] == "refused"
    assert list(client.server.sessions.kept) == before


def test_images_are_read_as_everywhere_else(client):
    status, answer = client.upload(encoded(picture().convert("CMYK"), "JPEG"))
    assert status == 201 and (answer["width"], answer["height"]) == (60, 40)
    turned = Image.Exif()
    turned[274] = 6
    status, answer = client.upload(encoded(picture(), "JPEG", exif=turned.tobytes()))
    assert status == 201 and (answer["width"], answer["height"]) == (40, 60)
    preview = client.ask("GET", f"/api/images/{answer['image']}")[2]
    with Image.open(BytesIO(preview)) as image:
        assert image.size == (40, 60) and image.getexif().get(274, 1) == 1
    frames = [picture(), picture().rotate(180)]
    status, answer = client.upload(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert status == 201 and "has 2 frames, the first is used" in answer["warnings"][0]


def test_large_images_are_previewed_small(client):
    status, answer = client.upload(encoded(Image.new("RGB", (5000, 100), (200, 30, 30)), "PNG"))
    assert status == 201 and (answer["width"], answer["height"]) == (5000, 100)
    with Image.open(BytesIO(client.ask("GET", f"/api/images/{answer['image']}")[2])) as image:
        assert image.size == (2048, 41) and image.format == "JPEG"


# --------------------------------------------------------------------------------------------- clients that come and go


class SteadyRunner(Runner):
    """Answers at once with one empty mask; encoding waits while ``held``."""

    name = "steady"
    info = ModelInfo(name="steady", family="steady", frame=ImageFrame(mask_resize="bilinear_direct"))
    embedding_names = ("image_embeddings",)
    candidates = (0,)

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.began = threading.Event()
        self.prompts: list[int] = []

    def encode(self, prepared: Any) -> dict[str, np.ndarray]:
        self.began.set()
        assert self.free.wait(PATIENCE_S)
        return {"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)}

    def decode_all(self, embedding: Any, point_coords: Any, point_labels: Any, mask_input: Any = None) -> Decoded:
        self.prompts.append(len(point_labels[0]))
        return Decoded(np.full((1, 1, 256, 256), -9, np.float32), np.ones((1, 1), np.float32))


@pytest.fixture
def steady() -> SteadyRunner:
    return SteadyRunner()


@pytest.fixture
def steady_client(steady: SteadyRunner) -> Any:
    backend = Backend(id="steady", model="steady", label="", info=steady.info, size_bytes=0, open=lambda: steady)
    with running([backend]) as client:
        yield client
        steady.free.set()
        assert client.problems == []


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def send_and_leave(client: Client, path: str, document: Any) -> socket.socket:
    """Send a request and return its connection, unanswered."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {client.host}\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection((client.host, client.port), PATIENCE_S)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_the_latest_click_wins_and_a_client_that_left_is_not_worked_for(steady, steady_client):
    asked = {"image": steady_client.image(), "backend": "steady"}
    steady.prompts.clear()
    steady.free.clear()
    waiting = steady_client.server.workers["steady"].waiting
    first = send_and_leave(steady_client, "/api/encode", asked)
    assert steady.began.wait(PATIENCE_S)
    lines: list[Any] = []

    def click(points: int) -> None:
        lines.append(steady_client.post("/api/predict", {**asked, "points": [[1, 1, 1]] * points})[1])

    answers = [threading.Thread(target=click, args=(points,)) for points in (1, 2, 3)]
    for count, thread in enumerate(answers):
        thread.start()
        eventually(lambda count=count: len(lines) == count and len(waiting) == 1)
    elsewhere = {**asked, "image": steady_client.image(), "points": [[1, 1, 1]] * 9}
    with send_and_leave(steady_client, "/api/predict", elsewhere):
        eventually(lambda: len(waiting) == 2)
    eventually(lambda: len(waiting) == 1)
    first.close()
    steady.free.set()
    for thread in answers:
        thread.join(PATIENCE_S)
    assert [line.get("code") for line in lines] == ["stale", "stale", None]
    # the warm-up, then the one click that anybody still waited for, each with a padding point
    assert [count for count in steady.prompts if count > 2] == [4]


def test_a_thousand_clicks_leave_nothing_behind(steady, steady_client):
    asked = {"image": steady_client.image(), "backend": "steady"}
    steady_client.post("/api/encode", asked)
    session = steady_client.server.sessions.find(asked["image"])
    size, threads = session.bytes, threading.active_count()
    for number in range(1000):
        status, line = steady_client.post("/api/predict", {**asked, "points": [[number % 60, number % 40, 1]]})
        assert status == 200 and "result" in line
    assert session.bytes == size and len(steady_client.server.sessions.kept) == 1
    assert steady_client.server.workers["steady"].waiting == {} and threading.active_count() <= threads


def test_two_tabs_have_an_image_each_and_a_third_takes_the_oldest_ones_room(serving):
    client = serving(images=2)
    first, second = client.image(60, 40), client.image(50, 30)
    for token, size in ((first, [40, 60]), (second, [30, 50])):
        asked = {"image": token, "backend": "small/torch", "points": [[1, 1, 1]]}
        result = client.post("/api/predict", asked)[1]["result"]
        assert result["answers"][0]["candidates"][0]["segmentation"]["size"] == size
    client.image()
    status, answer = client.post("/api/encode", {"image": first, "backend": "small/torch"})
    assert (status, answer["code"]) == (410, "gone") and client.ask("GET", f"/api/images/{first}")[0] == 410
    assert client.post("/api/encode", {"image": second, "backend": "small/torch"})[0] == 200


def test_uploads_are_bounded_in_number_and_time_and_may_break_off(serving):
    client = serving(uploads=1, upload_s=1.0)
    head = f"POST /api/images HTTP/1.1\r\nHost: {client.host}\r\nContent-Type: application/octet-stream\r\n"
    with socket.create_connection((client.host, client.port), PATIENCE_S) as slow:
        slow.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
        eventually(lambda: client.server.receiving == 1)
        status, answer = client.upload(picture())
        assert (status, answer["code"]) == (503, "busy")
        assert slow.recv(100).split()[1] == b"408"
    with socket.create_connection((client.host, client.port), PATIENCE_S) as broken:
        broken.sendall(f"{head}Content-Length: 1000\r\n\r\nabc".encode())
        eventually(lambda: client.server.receiving == 1)
    eventually(lambda: client.server.receiving == 0)
    assert client.upload(picture())[0] == 201 and client.problems == []


def test_a_defect_is_named_to_the_client_and_to_whoever_started_the_server(steady, steady_client, monkeypatch):
    monkeypatch.setattr(steady, "decode_all", lambda *_: 1 / 0)
    token = steady_client.image()
    line = steady_client.post("/api/predict", {"image": token, "backend": "steady", "points": [[1, 1, 1]]})[1]
    assert line == {"error": "unexpected ZeroDivisionError: division by zero", "code": "failed"}
    assert steady_client.problems == [line["error"]]
    steady_client.problems.clear()
