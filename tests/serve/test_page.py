"""The page in a real browser: clicks on drawn objects whose exact masks are known, answered by exported files.

Needs Chromium, ``/usr/bin/chromium`` of Debian, and Playwright, which drives it; skipped without them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from running_server import PATIENCE_S, Client, running

from edgesam_export.distill.scenes import draw_scene
from edgesam_export.imaging.masks import iou
from edgesam_export.serve.backends import find_backends

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

SCENE = draw_scene(3, 2006)
PATIENCE_MS = PATIENCE_S * 1000
PAINTED = """canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(0, 0, canvas.width, canvas.height).data.filter((value, at) => at % 4 === 3 && value).length;
}"""
ONNX, COREML = "edge_sam_tiny/onnx", "edge_sam_tiny/coreml/fp16"
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 375, "height": 667}


def middle(mask: np.ndarray) -> tuple[float, float]:
    """The pixel of a mask that is farthest from its edge, about: x, y."""
    depth = mask.astype(int)
    while (inner := depth.copy()).any():
        for axis in (0, 1):
            for step in (-1, 1):
                inner = np.minimum(inner, np.roll(depth, step, axis))
        if not inner.any():
            break
        depth = inner
    y, x = np.argwhere(depth)[0]
    return float(x) + 0.5, float(y) + 0.5


OBJECT = int(np.argmax(SCENE.masks.sum((1, 2))))
TRUTH = SCENE.masks[OBJECT]


@pytest.fixture(scope="module")
def served(exported: Callable[..., Path]) -> Iterator[Client]:
    """The bundled weights as files of both formats, and in PyTorch."""
    folder = exported("edge_sam_tiny", ("coreml", "onnx"), random_weights=None, mask_input=True)
    with running(find_backends([folder])) as client:
        yield client
        assert client.problems == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A tab with the page, and what a user does on it."""

    def __init__(self, browser: Any, url: str, viewport: dict[str, int], **options: Any) -> None:
        self.context = browser.new_context(viewport=viewport, accept_downloads=True, **options)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.route("**/api/predict", self.pass_on)
        self.bodies: list[str] = []
        self.tab.goto(url)
        self.tab.locator("#samples button").first.wait_for()

    def open(self, content: bytes, name: str = "scene.png") -> None:
        self.tab.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        self.tab.locator("#stage").wait_for()
        self.settled()

    def settled(self) -> None:
        """Wait until the figures show an encoding, and nothing is computed."""
        self.tab.locator("#figures td:has-text(' ms')").first.wait_for()
        self.tab.locator("#progress").wait_for(state="hidden")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the scene lies in the tab."""
        box = self.tab.locator("#stage").bounding_box()
        height, width = TRUTH.shape
        return box["x"] + x / width * box["width"], box["y"] + y / height * box["height"]

    def pass_on(self, route: Any) -> None:
        """Send a request to the server and keep its answer, which the browser does not keep of a stream."""
        response = route.fetch(timeout=PATIENCE_MS)
        self.bodies.append(response.text())
        route.fulfill(response=response)

    def answer(self, act: Callable[[], Any]) -> dict[str, Any]:
        """Do something that asks for masks; return the result."""
        with self.tab.expect_response("**/api/predict"):
            act()
        self.settled()
        return dict(json.loads(self.bodies[-1].splitlines()[-1])["result"])

    def click(self, x: float, y: float, **options: Any) -> dict[str, Any]:
        return self.answer(lambda: self.tab.mouse.click(*self.at(x, y), **options))

    def saved(self, kind: str) -> tuple[str, bytes]:
        """Name and content of a download."""
        with self.tab.expect_download() as caught:
            self.tab.click(f"[data-download={kind}]")
        return caught.value.suggested_filename, Path(caught.value.path()).read_bytes()

    def painted(self) -> int:
        """Pixels of the canvas that are not transparent."""
        return int(self.tab.locator("#canvas").evaluate(PAINTED))

    def text(self, selector: str) -> str:
        return str(self.tab.locator(selector).inner_text())


@pytest.fixture
def opened(browser: Any, served: Client) -> Iterator[Callable[..., Page]]:
    """``opened(viewport, ...)`` -> a page; afterwards nothing was said on its console."""
    pages: list[Page] = []

    def open_page(viewport: dict[str, int] = DESKTOP, **options: Any) -> Page:
        pages.append(Page(browser, served.url, viewport, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()
        assert page.complaints == []


@pytest.fixture(scope="module")
def scene_png() -> bytes:
    buffer = BytesIO()
    Image.fromarray(SCENE.image).save(buffer, format="PNG")
    return buffer.getvalue()


def best(answer: dict[str, Any]) -> np.ndarray:
    return coco.decode(answer["candidates"][answer["best"]]["segmentation"]).astype(bool)


def test_a_click_finds_the_drawn_object_and_its_files_hold_it(opened, scene_png):
    page = opened()
    page.open(scene_png)
    assert page.text("#status").startswith("scene.png · 512 × 512") and page.painted() == 0
    result = page.click(*middle(TRUTH))
    (answer,) = result["answers"]
    assert answer["backend"] == COREML and iou(best(answer), TRUTH) > 0.9
    assert page.painted() > 0 and page.tab.locator("#candidates button").count() == 4
    name, content = page.saved("mask")
    with Image.open(BytesIO(content)) as image:
        assert name == "scene_mask.png" and np.array_equal(np.asarray(image) > 0, best(answer))
    name, content = page.saved("rle")
    (entry,) = json.loads(content)["annotations"]
    assert name == "scene_mask.json" and np.array_equal(coco.decode(entry["segmentation"]).astype(bool), best(answer))
    name, content = page.saved("overlay")
    with Image.open(BytesIO(content)) as image:
        assert name == "scene_overlay.png" and image.size == (512, 512)
    other = (answer["best"] + 1) % 4
    page.tab.locator("#stage").press(str(other + 1))
    assert page.tab.locator("#candidates button").nth(other).get_attribute("aria-checked") == "true"
    with Image.open(BytesIO(page.saved("mask")[1])) as image:
        expected = coco.decode(answer["candidates"][other]["segmentation"]).astype(bool)
        assert np.array_equal(np.asarray(image) > 0, expected)


def test_boxes_points_undo_and_keys(opened, scene_png):
    page = opened()
    page.open(scene_png)
    rows, columns = np.nonzero(TRUTH)
    corners = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]

    def drag() -> None:
        page.tab.mouse.move(*page.at(*corners[0]))
        page.tab.mouse.down()
        page.tab.mouse.move(*page.at(*corners[1]), steps=3)
        page.tab.mouse.up()

    boxed = page.answer(drag)["answers"][0]
    assert iou(best(boxed), TRUTH) > 0.9
    page.tab.keyboard.down("Shift")
    both = page.click(5, 5)["answers"][0]
    page.tab.keyboard.up("Shift")
    again = page.answer(lambda: page.tab.keyboard.press("Control+z"))["answers"][0]
    assert np.array_equal(best(again), best(boxed)) and iou(best(both), TRUTH) > 0.8
    page.tab.keyboard.press("c")
    page.settled()
    assert page.painted() == 0 and page.tab.locator("#candidates-card").is_hidden()
    page.tab.keyboard.press("n")
    assert page.tab.locator("[data-tool=background]").get_attribute("aria-checked") == "true"
    page.tab.keyboard.press("p")
    page.tab.keyboard.press("Enter")  # shows the crosshair in the middle
    x, y = (round((value / 512 - 0.5) * 100) for value in middle(TRUTH))
    for key, count in (("ArrowRight" if x > 0 else "ArrowLeft", abs(x)), ("ArrowDown" if y > 0 else "ArrowUp", abs(y))):
        for _ in range(count):
            page.tab.keyboard.press(key)
    typed = page.answer(lambda: page.tab.keyboard.press("Enter"))["answers"][0]
    assert iou(best(typed), TRUTH) > 0.9
    for _ in range(6):  # eight slots: seven points and the padding point
        page.click(*middle(TRUTH))
    page.tab.mouse.click(*page.at(*middle(TRUTH)))
    page.tab.locator("#message:has-text('the prompt needs 9 slots')").wait_for()
    page.answer(lambda: page.tab.click("#undo"))
    assert page.tab.locator("#message").is_hidden(), "the point that was refused is gone"


def test_two_backends_side_by_side(opened, scene_png):
    page = opened(color_scheme="dark")
    page.open(scene_png)
    page.click(*middle(TRUTH))
    result = page.answer(lambda: page.tab.select_option("#against", ONNX))
    masks = [best(answer) for answer in result["answers"]]
    pixels = int(np.count_nonzero(masks[0] ^ masks[1]))
    assert [answer["backend"] for answer in result["answers"]] == [COREML, ONNX]
    assert page.text("#difference").startswith(f"{pixels} px, IoU ") and iou(*masks) > 0.99
    assert page.text("#figures").count(" ms") == 4
    for view in ("one", "other", "difference"):
        page.tab.click(f"[data-view={view}]")
        assert page.painted() > 0
    result = page.answer(lambda: page.tab.select_option("#backend", "edge_sam_tiny/torch"))
    assert result["answers"][0]["runner"] == "torch" and iou(best(result["answers"][0]), TRUTH) > 0.9


def test_everything_is_found_coloured_and_downloaded(opened, scene_png):
    page = opened()
    page.open(scene_png)
    page.tab.select_option("#backend", ONNX)
    page.settled()
    for name, value in (("#min-score", "0.8"), ("#min-stability", "0.9")):
        page.tab.fill(name, value)
    page.tab.locator("#grid").evaluate("select => select.add(new Option('4', 4))")
    page.tab.select_option("#grid", "4")
    page.tab.click("#everything")
    page.tab.locator("#found:has-text('mask')").wait_for()
    name, content = page.saved("rle")
    found = [coco.decode(entry["segmentation"]).astype(bool) for entry in json.loads(content)["annotations"]]
    assert name == "scene_masks.json" and len(found) >= 2 and page.painted() > sum(mask.sum() for mask in found) / 2
    assert sum(max(iou(mask, truth) for truth in SCENE.masks) > 0.8 for mask in found) >= 2
    page.tab.mouse.move(*page.at(*middle(found[-1])))
    assert page.text("#status").startswith("mask ")
    assert page.saved("overlay")[0] == "scene_everything.png"


def test_a_phone_and_files_that_are_no_image(browser, served, scene_png):
    page = Page(browser, served.url, PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.open(scene_png)
    assert page.tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for name in ("object", "background", "box"):
        box = page.tab.locator(f"[data-tool={name}]").bounding_box()
        assert box["width"] >= 44 and box["height"] >= 44 and box["x"] + box["width"] <= PHONE["width"]
    x, y = page.at(*middle(TRUTH))
    answer = page.answer(lambda: page.tab.touchscreen.tap(x, y))["answers"][0]
    assert iou(best(answer), TRUTH) > 0.9 and page.complaints == []
    page.tab.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.tab.locator("#message:has-text('not an image that can be read')").wait_for()
    assert page.painted() > 0, "the image before is still there"
    # the browser names the refused request itself
    assert [line for line in page.complaints if "status of 400" not in line] == []
    served.server.sessions.kept.clear()
    with page.tab.expect_response(lambda response: response.url.endswith("/api/predict") and response.ok):
        page.tab.touchscreen.tap(*page.at(5, 5))
    page.settled()
    assert len(served.server.sessions.kept) == 1, "the page sent its image again"
    page.context.close()


DROP = """async ([texts, files]) => {
  const dropped = new DataTransfer();
  for (const [type, text] of texts) dropped.setData(type, text);
  for (const file of document.getElementById("file").kept?.slice(0, files) ?? []) dropped.items.add(file);
  dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
}"""
KEEP = """file => {
  file.addEventListener("change", () => (file.kept = [file.files[0], file.files[0]]), { capture: true });
}"""


def test_what_is_dropped_and_is_no_file_and_what_cannot_be_read_is_said(browser, served, scene_png, tmp_path):
    page = Page(browser, served.url, DESKTOP)
    page.tab.evaluate(DROP, [[["text/uri-list", "https://example.org/a.jpg"]], 0])
    page.tab.locator("#message").wait_for()
    assert "that is no file; save the image first" in page.text("#message")
    page.tab.locator("#file").evaluate(KEEP)
    (tmp_path / "a.png").write_bytes(scene_png)
    page.tab.set_input_files("#file", tmp_path / "a.png")
    page.settled()
    page.tab.evaluate(DROP, [[], 2])
    page.tab.locator("#message").wait_for()
    assert "2 files; a.png is shown" in page.text("#message")
    (tmp_path / "a.png").unlink()
    page.tab.evaluate(DROP, [[], 1])
    page.tab.locator("#message:has-text('cannot be read')").wait_for()
    assert "a.png: cannot be read; choose an image file" in page.text("#message")
    page.context.close()
