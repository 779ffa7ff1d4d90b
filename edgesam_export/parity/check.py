"""The parity check: every output of every prompt on real images, exported files against PyTorch, held to gates.

The decoder is checked twice: on the reference's embedding, which isolates it, and on the candidate's own, which is what
a user gets. Logits are compared at 256x256 within the part that is image, not padding. The candidate prepares images
and points by its own contract. A failed gate is a row of the report, never an exception; comparing nothing is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.feeds import PackedPrompt, match_maps
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.mil.memory import keep_freed_memory
from edgesam_export.parity.at_source import at_source_rows
from edgesam_export.parity.counterparts import Comparison, comparisons, original_reference
from edgesam_export.parity.diagnosis import Diagnosis
from edgesam_export.parity.gates import DEFAULT_GATES, Check, Gate, gates_on
from edgesam_export.parity.inputs import (
    Prompts,
    default_images,
    default_prompts,
    load_images,
    open_candidates,
    open_reference,
    pack,
    prompts_for,
    trained_prompts,
)
from edgesam_export.parity.metrics import SURE
from edgesam_export.parity.outputs import METRICS, Pair, measure, problem_of
from edgesam_export.parity.queries import Answer, answers, worst_answer
from edgesam_export.parity.reference import Reference, image_extent
from edgesam_export.parity.report import (
    ArtifactDigest,
    CheckResult,
    Component,
    Explanation,
    Output,
    Owner,
    ParityReport,
    ParityRow,
    Prompt,
)
from edgesam_export.parity.scores import fair_scores, reference_scores
from edgesam_export.parity.single_mask import chosen_token
from edgesam_export.parity.thumbnails import mask_image
from edgesam_export.parity.witness import agreement_rows, shown_to, witness_runners
from edgesam_export.runners import Decoded, Embedding, Runner
from edgesam_export.spec import NUMERICS, Progress

__all__ = ["DEFAULT_GATES", "Gate", "ParityCheck", "ParityReport", "Prompt", "check_parity", "default_prompts"]

TOGETHER = "on the candidate's own embedding only: encoder and decoder keep their gates alone, their errors add up"


def check_parity(
    reference: Any,
    candidate: Any,
    *,
    images: Iterable[Any] | None = None,
    prompts: Prompts | None = None,
    gates: Sequence[Gate] = DEFAULT_GATES,
    numerics: str | Sequence[str] = NUMERICS,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare exported files with the PyTorch model they came from.

    ``reference`` is a loaded model or a runner; ``candidate`` exported files (artifacts, a path, several) or runners.
    ``images`` are paths, Pillow images, uint8 (H, W, 3) arrays or pairs of a name and one of these; at least two.
    ``prompts`` gives the prompts for an image of a height and width, or has them by the image's name. By default images
    and prompts are of the kinds that the model was trained on. Core ML files run under each of ``numerics``;
    ``progress`` gets done, all, a text.

    Raises:
        UsageError: nothing to compare: no candidate, fewer than two images, no fitting prompt, no gate that applies;
            or a gate on an output that no candidate has.
        RunnerUnavailableError: this machine cannot execute a candidate.
    """
    candidates = open_candidates(candidate, (numerics,) if isinstance(numerics, str) else tuple(numerics))
    require_outputs(gates, candidates)
    original = original_reference(open_reference(reference), candidates)
    keep_freed_memory(original)
    loaded = load_images(default_images(original.runner.info) if images is None else images)
    candidates = [*candidates, *witness_runners(candidates, original, progress)]
    asked = prompts or trained_prompts(original.runner.info)
    shown = [(name, image, prompts_for(name, image, asked)) for name, image in loaded.items()]
    sides = comparisons(candidates, original)
    return assemble(original, candidates, compared(sides, shown, tuple(gates), progress))


def compared(
    sides: Sequence[Comparison],
    images: Sequence[tuple[str, np.ndarray, Sequence[Prompt]]],
    gates: tuple[Gate, ...],
    progress: Progress | None,
) -> CheckResult:
    """Return the findings about every candidate on every image with its prompts; a candidate's memory is freed."""
    total = len(sides) * len(images)
    result, ranged = CheckResult(), set[str]()
    for index, side in enumerate(sides):
        runner = side.candidate
        check = ParityCheck(runner, side.reference(), gates, ranged)
        for number, (name, image, prompts) in enumerate(shown_to(runner, images)):
            if progress:
                progress(index * len(images) + number, total, f"{runner.name}: {name}")
            check.compare(name, image, prompts)
        result += check.result()
        runner.release()
    if progress:
        progress(total, total, "done")
    return result


def require_outputs(gates: Sequence[Gate], candidates: Sequence[Runner]) -> None:
    """Raise UsageError when a gate names an output that exists nowhere, and so would never apply."""
    known = {*METRICS, *(name for runner in candidates for name in runner.embedding_names)}
    for gate in gates:
        if gate.output not in known:
            raise UsageError(f"gate on '{gate.output}': no such output; choose one of {', '.join(sorted(known))}")


def assemble(original: Reference, candidates: Sequence[Runner], result: CheckResult) -> ParityReport:
    """Return the report on all candidates."""
    files = {file.sha256: file for runner in candidates for file in runner.artifacts}
    return ParityReport(
        model=candidates[0].info.name,
        tool_version=version("edgesam-export"),
        reference=original.runner.name,
        artifacts=tuple(
            ArtifactDigest(file=file.path.name, format=file.format, component=file.component, sha256=file.sha256)
            for file in files.values()
        ),
        rows=result.rows,
        skipped=tuple(dict.fromkeys(result.notes)),
        divergences=result.divergences,
        explanations=result.explanations,
        ranges=tuple(sorted(dict.fromkeys(result.ranges), key=lambda row: -row.share)),
        images=result.images,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """An image to compare on, as the candidate prepares it by its own contract. Shapes: pixels uint8 (H, W, 3)"""

    name: str
    pixels: np.ndarray
    prepared: PreparedImage
    extent: tuple[int, int]
    """Rows and columns of the logits that show the image, not its padding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """An embedding that a decoder is given."""

    owner: Owner
    embedding: Embedding


class ParityCheck:
    """One candidate against the reference: ``compare`` once for each image, then ``result``.

    Raises: UsageError when the candidate's decoder selects a mask itself, so that there is no mask for each token.
    """

    def __init__(self, runner: Runner, reference: Reference, gates: tuple[Gate, ...], ranged: set[str]) -> None:
        if runner.selects and not runner.dynamic:
            raise UsageError(f"{runner.name}: this decoder picks one mask itself; check an export with --candidates 4")
        self.runner = runner
        self.reference = reference
        self.gates = tuple(gate for gate in gates if gate.numerics == runner.numerics)
        files = {artifact.component for artifact in runner.artifacts}
        # What a prompt encoder makes is held to the masks that the decoder makes of it.
        self.components = files - {"prompt_encoder"} or {"encoder", "decoder"}
        self.diagnosis = Diagnosis(runner, reference, ranged)
        self.findings: list[CheckResult] = []
        self.answers: dict[tuple[str, Owner], dict[Prompt, list[Answer]]] = {}
        """Of a decoder of several queries, what it returns of each image's prompts on each embedding."""

    def compare(self, name: str, image: np.ndarray, prompts: Sequence[Prompt]) -> None:
        """Compare every component on one image."""
        extent = image_extent(self.reference.prepare(name, image))
        frame = self.runner.info.frame
        known = frame == self.reference.frame
        prepared = self.reference.prepare(name, image) if known else prepare(image, frame)
        sample = Sample(name=name, pixels=image, prepared=prepared, extent=extent)
        sources = [Source(owner="reference", embedding=self.reference.embedding(name, self.runner.takes_image))]
        if "encoder" in self.components:
            sources += self.compare_encoder(sample, sources[0])
        if self.runner.queries > 1:
            self.decode_all(sample, prompts, sources)
        for prompt in prompts:
            self.compare_decoder(sample, prompt, sources)
        if "proposals" in self.components:
            self.findings += [self.compare_proposals(sample, source) for source in sources]

    def compare_decoder(self, sample: Sample, prompt: Prompt, sources: Sequence[Source]) -> None:
        """Compare one prompt on every embedding.

        A lone encoder in half precision is judged by the masks that the reference's decoder makes of its embedding.
        """
        if "decoder" not in self.components:
            decoder = self.reference.runner
            judged = sources[1:] if self.runner.numerics != "fp32" and can_decode(decoder) else ()
            if not self.obstacle(sample, prompt, decoder):
                self.findings += [self.compare_prompt(sample, prompt, s, decoder, "encoder") for s in judged]
            return
        if obstacle := self.obstacle(sample, prompt, self.runner):
            self.findings.append(CheckResult(notes=(f"{self.runner.name}: prompt {prompt.label}: {obstacle}",)))
            return
        results = [self.compare_prompt(sample, prompt, source, self.runner, "decoder") for source in sources]
        self.findings += results
        failed = [next((row for row in result.rows if not row.passed), None) for result in results]
        if len(failed) == 2 and failed[1] and not failed[0]:
            self.findings.append(self.diagnosis.diagnose("encoder", failed[1]))

    def compare_encoder(self, sample: Sample, expected: Source) -> list[Source]:
        """Compare the maps of an embedding, in order; return the candidate's own unless a decoder cannot take it."""
        own = self.runner.encode(sample.prepared)
        rows = [
            self.row(Output(name=name, component="encoder", image=sample.name), array, own.get(name))
            for name, array in match_maps(expected.embedding, self.runner.embedding_names).items()
        ]
        self.findings += [CheckResult(rows=tuple(rows)), self.diagnosis.diagnose("encoder", worst(rows))]
        return [] if any(row.problem for row in rows) else [Source(owner="own", embedding=own)]

    def obstacle(self, sample: Sample, prompt: Prompt, decoder: Runner) -> str:
        """Return why a decoder cannot take a prompt; empty when it can."""
        if prompt.kind == "mask" and not decoder.accepts_mask_input:
            known = decoder.mask_prompts
            return "the decoder was exported without mask input" if known else "the model knows no mask prompt"
        needed = pack(sample.prepared, prompt, None, decoder.info.padding_point)[1].shape[1]
        if decoder.slots is not None and needed > decoder.slots:
            return f"needs {needed} slots, the decoder has {decoder.slots}"
        return ""

    def compare_prompt(
        self, sample: Sample, prompt: Prompt, source: Source, decoder: Runner, component: Component
    ) -> CheckResult:
        """Compare masks and scores that ``decoder`` makes of one prompt on one embedding, by all of its queries."""
        found = self.answers.get((sample.name, source.owner), {}).get(prompt)
        if found is None:
            found = [Answer(0, decoder.decode_all(source.embedding, *self.packed(sample, prompt, decoder)))]
        compare = partial(self.compare_answer, sample, prompt, source, decoder, component)
        result = worst_answer(found, compare, decoder.queries)
        if source.owner == "reference":
            result += self.diagnosis.diagnose(component, worst(result.rows))
        return result

    def decode_all(self, sample: Sample, prompts: Sequence[Prompt], sources: Sequence[Source]) -> None:
        """Run a decoder of several queries on all prompts that it can take, on the reference's embedding last."""
        taken = {p: self.packed(sample, p, self.runner) for p in prompts if not self.obstacle(sample, p, self.runner)}
        for source in reversed(sources) if taken else ():
            key = sample.name, source.owner
            self.answers[key] = answers(self.runner, source.embedding, taken, number=len(self.answers))

    def packed(self, sample: Sample, prompt: Prompt, decoder: Runner) -> PackedPrompt:
        """Return a decoder's inputs for a prompt."""
        mask = self.reference.outputs(sample.name, self.runner.takes_image, prompt).mask_input
        return PackedPrompt(*pack(sample.prepared, prompt, decoder.slots, decoder.info.padding_point), mask)

    def compare_answer(
        self, sample: Sample, prompt: Prompt, source: Source, decoder: Runner, component: Component, decoded: Decoded
    ) -> CheckResult:
        """Compare one result of ``decoder`` of one prompt on one embedding."""
        key = sample.name, self.runner.takes_image, prompt
        outputs = self.reference.outputs(*key)
        noise = None if self.runner.numerics == "fp32" else self.reference.noise(*key, source.owner)
        logits, scores, presence = decoded
        kept = [self.reference.runner.candidates.index(token) for token in decoder.candidates]
        if decoder.dynamic and not self.reference.runner.dynamic:
            kept = [chosen_token(outputs, logits, noise)]
        noise = noise.of(kept) if noise else None
        expected_logits = outputs.logits[kept]
        if decoder.logit_limit is not None:
            expected_logits = expected_logits.clip(-decoder.logit_limit, decoder.logit_limit)
        expected_scores = reference_scores(outputs, kept, decoder, self.reference.runner)
        best = int(expected_scores.argmax())
        masks_output = Output(
            name="masks", component=component, image=sample.name, prompt=prompt.label, embeddings=source.owner
        )
        facts = {"best": best, "noise": noise, "expected_masks": self.reference.enlarged_masks(*key)[kept]}
        masks = self.row(masks_output, expected_logits[None], logits, extent=sample.extent, **facts)
        fair = fair_scores(decoder.score_kind, expected_logits, logits, noise)
        score_row = self.row(replace(masks_output, name="scores"), expected_scores[None], scores, **fair)
        result = CheckResult(rows=(masks, score_row))
        if decoder.scores_objects and outputs.object_score is not None:
            slack = SURE * noise.object_score if noise else 0.0
            named = replace(masks_output, name="object_score")
            result += CheckResult(rows=(self.row(named, outputs.object_score[None], presence, slack=slack),))
        if masks.metrics and (source.owner == "own" or "encoder" not in self.components):
            rows, columns = sample.extent
            sides = [side[:rows, :columns] for side in (expected_logits[best], logits[0, best])]
            result += CheckResult(images=(mask_image(sample.pixels, prompt, masks, sides),))
        return result

    def compare_proposals(self, sample: Sample, source: Source) -> CheckResult:
        """Compare boxes and their scores on one embedding."""
        found = self.runner.propose(source.embedding)
        expected = self.reference.proposals(sample.name, self.runner.takes_image)
        rows = [
            self.row(Output(name=name, component="proposals", image=sample.name, embeddings=source.owner), *sides)
            for name, *sides in zip(("boxes", "box_scores"), expected, found)
        ]
        result = CheckResult(rows=tuple(rows))
        return result + self.diagnosis.diagnose("proposals", worst(rows)) if source.owner == "reference" else result

    def row(
        self,
        output: Output,
        expected: np.ndarray,
        actual: np.ndarray | None,
        *,
        extent: tuple[int, int] | None = None,
        **facts: Any,
    ) -> ParityRow:
        """Return the comparison of one output: its metrics within ``extent`` (rows, columns), and the gates on them.

        ``facts`` are the further fields of ``Pair``.
        """
        values: dict[str, float] = {}
        shape = np.shape(actual) if actual is not None else ()
        if actual is not None and shape == expected.shape:
            crop = (..., slice(extent[0]), slice(extent[1])) if extent else (...,)
            pair = Pair(expected=expected[crop], actual=np.asarray(actual)[crop], **facts)
            values, shape = measure(output.name, pair), pair.actual.shape
        return ParityRow(
            candidate=self.runner.name,
            numerics=self.runner.numerics,
            component=output.component,
            embeddings=output.embeddings,
            image=output.image,
            prompt=output.prompt,
            output=output.name,
            shape=tuple(shape),
            metrics=values,
            checks=tuple(
                Check(gate=gate, value=values.get(gate.metric, math.nan))
                for gate in gates_on(self.gates, output.component, output.name)
                if gate.metric in values or not values
            ),
            problem=problem_of(expected, actual),
        )

    def result(self) -> CheckResult:
        """Return all findings.

        Raises: UsageError when a component was not gated at all: no prompt fitted the decoder or no gate applies.
        """
        result = sum(self.findings, CheckResult())
        for component in sorted(self.components):
            rows = [row for row in result.rows if row.component == component]
            if not rows:
                reasons = "; ".join(dict.fromkeys(result.notes)) or "no prompt"
                raise UsageError(f"{self.runner.name}: nothing of the {component} was compared ({reasons})")
            if not any(row.checks for row in rows):
                raise UsageError(f"{self.runner.name}: no gate applies to the {component} under {self.runner.numerics}")
        agreement = CheckResult(rows=tuple(agreement_rows(self.runner, result.rows)))
        at_source = CheckResult(rows=at_source_rows(self.runner, self.reference, self.gates))
        return result + agreement + at_source + CheckResult(explanations=tuple(self.end_to_end(result.rows)))

    def end_to_end(self, rows: Sequence[ParityRow]) -> Iterator[Explanation]:
        """Yield an explanation for each component that fails on the candidate's own embedding only."""
        if not all(row.passed for row in rows if row.component == "encoder"):
            return
        for component in sorted(self.components):
            failed = {row.embeddings for row in rows if row.component == component and not row.passed}
            if failed == {"own"}:
                yield Explanation(candidate=self.runner.name, component=component, text=TOGETHER)


def worst(rows: Sequence[ParityRow]) -> ParityRow:
    """Return the first row that failed, the first of all when none did."""
    return next((row for row in rows if not row.passed), rows[0])


def can_decode(runner: Runner) -> bool:
    """Return whether a runner has a decoder: a model, or files with one among them."""
    return not runner.artifacts or "decoder" in {artifact.component for artifact in runner.artifacts}
