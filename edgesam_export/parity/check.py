"""Do exported files still compute what PyTorch computes: every output of every prompt on real pictures, against gates.

The decoder is judged twice: on the reference's embedding, which isolates it, and on the candidate's own, which is what
a user gets. Logits are compared at 256x256 within the part that is picture, not padding; masks at four times that, the
prompt frame in which a user's masks are made: in a mask of 90 logits one sign would be more than the gate allows. A
failed gate is a row of the report, never an exception; comparing nothing is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.errors import EdgeSAMExportError, UsageError
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.masks import resized, stability
from edgesam_export.parity import metrics
from edgesam_export.parity.divergence import Divergence, first_divergence
from edgesam_export.parity.gates import DEFAULT_GATES, METRICS, NUMERICS, Check, Gate
from edgesam_export.parity.inputs import (
    default_images,
    default_prompts,
    load_pictures,
    open_candidates,
    open_runner,
    pack,
)
from edgesam_export.parity.ranges import RangeRow, range_report
from edgesam_export.parity.reference import Reference, Truth
from edgesam_export.parity.report import ArtifactDigest, Explanation, ParityPicture, ParityReport, ParityRow, Prompt
from edgesam_export.runners import Embedding
from edgesam_export.spec import MASK_SIDE, Artifact

__all__ = ["DEFAULT_GATES", "Gate", "ParityReport", "Prompt", "check_parity", "default_images", "default_prompts"]

MASK_SCALE = 4
"""Side of the frame of 1024 over that of the logits."""
ROUNDING = "rounding alone: no operation stands out, and no output is off by 1 % of its rms value"
TOGETHER = "on the candidate's own embedding only: encoder and decoder keep their gates alone, their errors add up"
RANGES_KEPT = 10
"""Operations of a component that the report keeps, those nearest to their limit."""

Progress = Callable[[int, int, str], None]


def check_parity(
    reference: Any,
    candidate: Any,
    *,
    images: Iterable[Any] | None = None,
    prompts: Callable[[tuple[int, int]], Sequence[Prompt]] = default_prompts,
    gates: Sequence[Gate] = DEFAULT_GATES,
    numerics: Sequence[str] = NUMERICS,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare exported files with the PyTorch model they came from.

    ``reference`` is a loaded model or a runner; ``candidate`` exported files (artifacts, a path, several) or runners.
    ``images`` are paths, Pillow images, uint8 (H, W, 3) arrays or pairs of a name and one of these; at least two.
    Core ML files are executed once under each of ``numerics``. ``progress`` gets steps done, steps in all and a text.

    Raises:
        UsageError: nothing to compare: no candidate, fewer than two pictures, no fitting prompt, no gate that applies.
        RunnerUnavailableError: this machine cannot execute a candidate.
    """
    candidates = open_candidates(candidate, tuple(numerics))
    pictures = load_pictures(default_images() if images is None else images)
    original = Reference(open_reference(reference), candidates[0].info.frame)
    total = len(candidates) * len(pictures)
    rows: list[ParityRow] = []
    found: list[Divergence | Explanation | ParityPicture | RangeRow | str] = []
    for index, runner in enumerate(candidates):
        trial = Trial(runner, reference_for(runner, original), tuple(gates))
        for number, (name, picture) in enumerate(pictures.items()):
            if progress:
                progress(index * len(pictures) + number, total, f"{runner.name}: {name}")
            trial.compare(name, picture, prompts(picture.shape[:2]))
        trial.finish()
        runner.release()
        rows += trial.rows
        found += trial.found
    if progress:
        progress(total, total, "done")
    return assemble(original, candidates, rows, found)


def open_reference(reference: Any) -> Any:
    """The reference's runner; of a model that we open ourselves, with the predicted IoU as scores.

    Stability can be computed from the logits and the predicted IoU cannot, so it serves candidates of both kinds.
    """
    runner = open_runner(reference)
    if runner is not reference:
        runner.score_kind = "iou"
    return runner


def reference_for(runner: Any, original: Reference) -> Reference:
    """The reference that a candidate is held to: exact arithmetic on FP16 files must give what their weights give.

    Whether rounding the weights matters is judged by the other numerics, against the original.
    """
    precisions = {artifact.contract.get("precision") for artifact in runner.artifacts}
    if numerics_of(runner) != "fp32" or "fp16" not in precisions or original.runner.model is None:
        return original
    from edgesam_export.runners.torch import StoredWeightsRunner

    stored = Reference(StoredWeightsRunner(original.runner.model, runner.artifacts), original.frame)
    stored.ranged = original.ranged
    return stored


def assemble(
    original: Reference, candidates: Sequence[Any], rows: Sequence[ParityRow], found: Sequence[Any]
) -> ParityReport:
    """The report of all trials."""
    files = {file.sha256: file for runner in candidates for file in runner.artifacts}
    ranges = [item for item in found if isinstance(item, RangeRow)]
    return ParityReport(
        model=candidates[0].info.name,
        tool_version=version("edgesam-export"),
        reference=original.runner.name,
        artifacts=tuple(
            ArtifactDigest(file=file.path.name, format=file.format, component=file.component, sha256=file.sha256)
            for file in files.values()
        ),
        rows=tuple(rows),
        skipped=tuple(dict.fromkeys(item for item in found if isinstance(item, str))),
        divergences=tuple(item for item in found if isinstance(item, Divergence)),
        explanations=tuple(item for item in found if isinstance(item, Explanation)),
        ranges=tuple(sorted(dict.fromkeys(ranges), key=lambda row: -row.share)),
        pictures=tuple(item for item in found if isinstance(item, ParityPicture)),
    )


def numerics_of(runner: Any) -> str:
    """Numerics that a runner's gates are chosen by: its own word, else its files' precision, else exact."""
    precisions = {artifact.contract.get("precision", "fp32") for artifact in runner.artifacts}
    return runner.numerics or ("fp16" if "fp16" in precisions else "fp32")


class Trial:
    """One candidate under judgement: ``compare`` once for each picture, then ``finish``; results in rows and found."""

    def __init__(self, runner: Any, reference: Reference, gates: tuple[Gate, ...]) -> None:
        self.runner = runner
        self.reference = reference
        self.numerics = numerics_of(runner)
        self.gates = tuple(gate for gate in gates if gate.numerics == self.numerics)
        if runner.selects:
            raise UsageError(f"{runner.name}: this decoder picks one mask itself; judge an export with --candidates 4")
        self.components = {artifact.component for artifact in runner.artifacts} or {"encoder", "decoder"}
        self.rows: list[ParityRow] = []
        self.found: list[Divergence | Explanation | ParityPicture | RangeRow | str] = []
        self.examined: set[str] = set()

    def compare(self, name: str, picture: np.ndarray, prompts: Sequence[Prompt]) -> None:
        """Judge every component on one picture."""
        prepared = self.reference.prepare(name, picture)
        embeddings = {"reference": self.reference.embedding(name, self.runner.takes_image)}
        if "encoder" in self.components:
            own = self.runner.encode(prepared)
            expected = dict(zip(own, embeddings["reference"].values(), strict=True))
            rows = [self.judge(key, expected[key], own[key], component="encoder", image=name) for key in own]
            self.examine("encoder", next((row for row in rows if not row.passed), rows[0]))
            if not any(row.problem for row in rows):
                embeddings["own"] = own
        for prompt in prompts if "decoder" in self.components else ():
            packed = self.pack(prepared, prompt)
            for source in embeddings if packed else ():
                self.compare_prompt(name, picture, prompt, (source, embeddings[source]), packed)
        for source in embeddings if "proposals" in self.components else ():
            self.compare_proposals(name, source, embeddings[source])

    def pack(self, prepared: PreparedImage, prompt: Prompt) -> tuple[np.ndarray, np.ndarray] | None:
        """The prompt for the candidate, None with the reason noted when its decoder cannot take it."""
        if prompt.kind == "mask" and not self.runner.accepts_mask_input:
            known = self.runner.mask_prompts
            reason = "the decoder was exported without mask input" if known else "the model knows no mask prompt"
            self.found.append(f"{self.runner.name}: prompt mask: {reason}")
            return None
        padding_point = self.runner.info.padding_point
        needed = pack(prepared, prompt, None, padding_point)[1].shape[1]
        if self.runner.slots is not None and needed > self.runner.slots:
            reason = f"needs {needed} slots, the decoder has {self.runner.slots}"
            self.found.append(f"{self.runner.name}: prompt {prompt.kind}: {reason}")
            return None
        return pack(prepared, prompt, self.runner.slots, padding_point)

    def compare_prompt(
        self,
        name: str,
        picture: np.ndarray,
        prompt: Prompt,
        embeddings: tuple[str, Embedding],
        packed: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Judge masks and scores of one prompt on one embedding."""
        truth = self.reference.truth(name, self.runner.takes_image, prompt)
        logits, scores = self.runner.decode(embeddings[1], *packed, truth.mask_input)
        chosen = [self.reference.runner.candidates.index(token) for token in self.runner.candidates]
        expected = truth.logits[chosen], self.reference_scores(truth, chosen)
        place = {"component": "decoder", "image": name, "prompt": prompt.kind, "embeddings": embeddings[0]}
        height, width = region(self.reference.prepared[name])
        best = int(expected[1].argmax())
        masks = self.judge("masks", expected[0][None], logits, crop=(height, width), best=best, **place)
        score_row = self.judge("scores", expected[1][None], scores, **place)
        if embeddings[0] == "reference":
            self.examine("decoder", masks if not masks.passed else score_row)
        if masks.metrics and (embeddings[0] == "own" or "encoder" not in self.components):
            sides = expected[0][best, :height, :width], logits[0, best, :height, :width]
            self.found.append(self.picture(name, picture, prompt, sides, masks))

    def compare_proposals(self, name: str, source: str, embeddings: Embedding) -> None:
        """Judge boxes and their scores on one embedding."""
        found = self.runner.propose(embeddings)
        expected = self.reference.proposals(name, self.runner.takes_image)
        rows = [
            self.judge(output, *sides, component="proposals", image=name, embeddings=source)
            for output, *sides in zip(("boxes", "box_scores"), expected, found)
        ]
        if source == "reference":
            self.examine("proposals", next((row for row in rows if not row.passed), rows[0]))

    def reference_scores(self, truth: Truth, chosen: list[int]) -> np.ndarray:
        """The reference's scores of the same kind as the candidate's."""
        if self.runner.score_kind == self.reference.runner.score_kind:
            return truth.scores[chosen]
        if self.runner.score_kind == "stability":
            return stability(truth.logits[chosen])
        raise UsageError(f"{self.runner.name} returns {self.runner.score_kind} scores, the reference only stability")

    def judge(
        self,
        output: str,
        expected: np.ndarray,
        actual: Any,
        *,
        component: str,
        image: str,
        prompt: str = "",
        embeddings: str = "",
        crop: tuple[int, int] | None = None,
        best: int = 0,
    ) -> ParityRow:
        """Measure one output, apply the gates and keep the row."""
        problem = problem_of(expected, actual)
        values: dict[str, float] = {}
        if actual is not None and np.shape(actual) == expected.shape:
            actual = np.asarray(actual)
            if crop:
                expected, actual = (array[..., : crop[0], : crop[1]] for array in (expected, actual))
            values = measure(output, expected, actual, best)
        row = ParityRow(
            candidate=self.runner.name,
            numerics=self.numerics,
            component=component,
            embeddings=embeddings,
            image=image,
            prompt=prompt,
            output=output,
            shape=tuple(np.shape(actual)) if actual is not None else (),
            metrics=values,
            checks=tuple(
                Check(gate=gate, value=values.get(gate.metric, math.nan))
                for gate in self.gates
                if gate.output == output and (gate.metric in values or not values)
            ),
            problem=problem,
        )
        self.rows.append(row)
        return row

    def picture(
        self, name: str, picture: np.ndarray, prompt: Prompt, sides: tuple[np.ndarray, np.ndarray], row: ParityRow
    ) -> ParityPicture:
        """Thumbnail and masks of the reference's best mask, all of one size."""
        height, width = sides[0].shape
        scale = width / picture.shape[1], height / picture.shape[0]
        shown = replace(
            prompt,
            points=tuple((x * scale[0], y * scale[1]) for x, y in prompt.points),
            box=None if prompt.box is None else tuple(v * scale[i % 2] for i, v in enumerate(prompt.box)),
        )
        return ParityPicture(
            runner=self.runner.name,
            image=name,
            prompt=shown,
            source=np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)),
            reference=sides[0] > 0,
            candidate=np.asarray(sides[1]) > 0,
            iou=row.metrics["best_mask_iou"],
            passed=row.passed,
        )

    def examine(self, component: str, row: ParityRow) -> None:
        """On a component's first call its ranges, on its first failure the operation at fault, if it can be replayed.

        A runner that executes a ``Program`` has ``replay(component)``: the program and the feed of its latest call.
        """
        files = [file for file in self.runner.artifacts if file.component == component]
        # A component in two parts has a program and a feed for each.
        calls = [self.runner.replay(component), *(self.runner.replay(component, n) for n in range(1, len(files)))]
        if calls[0] is None:
            return
        modules = next((file.contract.get("modules") for file in files), None) or {}
        digest = files[0].sha256 if files else f"{self.runner.name} {component}"
        if digest not in self.reference.ranged:
            self.reference.ranged.add(digest)
            rows = [found for call in calls for found in range_report(*call, modules=modules)]
            rows = sorted(rows, key=lambda found: -found.share)[:RANGES_KEPT]
            self.found += [replace(found, component=component) for found in rows]
        if row.passed or component in self.examined:
            return
        self.examined.add(component)
        found: Divergence | str | None
        if self.numerics == "fp32":
            parts = [[file] for file in files] or [[]]
            answers = [self.against_fresh_export(f, *call, modules=modules) for f, call in zip(parts, calls)]
            found = next((answer for answer in answers if not isinstance(answer, str)), answers[0])
        else:
            answers = [first_divergence(*call, a="fp32", b=self.numerics, modules=modules) for call in calls]
            found = next((answer for answer in answers if answer), ROUNDING)
        if isinstance(found, str):
            self.found.append(Explanation(candidate=self.runner.name, component=component, text=found))
        else:
            self.found.append(replace(found, component=component, candidate=self.runner.name))

    def against_fresh_export(
        self, files: list[Artifact], program: Any, feed: Any, *, modules: dict[str, str]
    ) -> Divergence | str:
        """The operation at which the saved file leaves what exporting the reference again gives, or why there is none.

        FP32 numerics add no error of their own: either the file changed after the export, or conversion is wrong.
        """
        model = self.reference.runner.model
        if model is None or not files:
            return "the files differ from PyTorch in fp32 already"
        from edgesam_export.runners.torch import fresh_program

        try:
            with fresh_program(model, files[0]) as (fresh, fresh_modules):
                modules = fresh_modules or modules  # export.json knows only files that did not change
                found = first_divergence(fresh, feed, a="fp32", b="fp32", other=program, modules=modules)
        except EdgeSAMExportError as error:
            return f"the files differ from PyTorch in fp32 already; exporting again to compare failed: {error}"
        return found or "the files differ from PyTorch in fp32 already, and so does a fresh export"

    def finish(self) -> None:
        """Refuse a trial in which a component was not gated at all.

        Raises: UsageError when no prompt fitted the decoder or no gate applies.
        """
        for component in sorted(self.components):
            rows = [row for row in self.rows if row.component == component]
            failed = {row.embeddings for row in rows if not row.passed}
            if failed == {"own"} and all(row.passed for row in self.rows if row.component == "encoder"):
                self.found.append(Explanation(candidate=self.runner.name, component=component, text=TOGETHER))
            if not rows:
                reasons = "; ".join(item for item in self.found if isinstance(item, str))
                raise UsageError(
                    f"{self.runner.name}: nothing of the {component} was compared ({reasons or 'no prompt'})"
                )
            if not any(row.checks for row in rows):
                raise UsageError(f"{self.runner.name}: no gate applies to the {component} under {self.numerics}")


def problem_of(expected: np.ndarray, actual: Any) -> str:
    """What is wrong with an output before any metric is looked at; empty when nothing is."""
    if actual is None:
        return "missing"
    if np.shape(actual) != expected.shape:
        return f"shape {tuple(np.shape(actual))} instead of {expected.shape}"
    broken = int(np.count_nonzero(~np.isfinite(actual)))
    return f"{broken} of {np.size(actual)} values are not finite" if broken else ""


def region(prepared: PreparedImage) -> tuple[int, int]:
    """Rows and columns of the 256x256 logits that show the picture."""
    height, width = (-(-side * MASK_SIDE // prepared.frame.prompt_size) for side in prepared.prompt_extent)
    return height, width


def enlarged(logits: np.ndarray) -> np.ndarray:
    """Four times the size, as a mask on its way to the picture's. Shapes: (M, h, w)"""
    height, width = logits.shape[-2:]
    return resized(logits, (MASK_SCALE * height, MASK_SCALE * width))


def measure(output: str, expected: np.ndarray, actual: np.ndarray, best: int) -> dict[str, float]:
    """All metrics of one output; ``best`` is the mask that the reference scores highest."""
    if output == "masks":
        pairs = zip(enlarged(expected[0]), enlarged(actual[0]), strict=True)
        overlaps = [metrics.mask_iou(left, right) for left, right in pairs]
        special = {"mask_iou": float(np.min(overlaps)), "best_mask_iou": overlaps[best]}  # np.min keeps a NaN
    elif output == "scores" and expected.size > 1:
        special = {"best_mask_gap": metrics.best_mask_gap(expected, actual)}
    else:
        special = {}
    plain = [
        name
        for name in METRICS[output]
        if hasattr(metrics, name) and name not in (*special, "mask_iou", "best_mask_gap")
    ]
    return {**special, **{name: getattr(metrics, name)(expected, actual) for name in plain}}
