"""From a model to the smallest packages that keep its masks: the library call behind ``shrink``."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.errors import UsageError
from edgesam_export.formats.coreml.convert import export_coreml
from edgesam_export.parity.verification import verify_files
from edgesam_export.predict.predictor import Predictor
from edgesam_export.rendering import renderers, write_reports
from edgesam_export.runners.torch import TorchRunner
from edgesam_export.shrink.allocation import Choice
from edgesam_export.shrink.packages import RECIPE_FILE, bytes_of, facts_of, recipe_for, write_largest, write_packages
from edgesam_export.shrink.prompts import Case, Example, make_case, trained_kinds
from edgesam_export.shrink.result import RECOVERED, Point, PointKind, ShrinkResult, by_size
from edgesam_export.shrink.search import Goal, Search, searched_schemes
from edgesam_export.shrink.simulation import Simulation
from edgesam_export.shrink.state import State
from edgesam_export.spec import PRESETS, UNCOMPRESSED, Artifact, CoreMLConfig, Progress, Recipe, is_read_by

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Images", "Recover", "ShrinkConfig", "shrink"]

Recover = Callable[[Recipe], "SamModel"]
"""Returns the model with weights that were trained for a recipe."""

STEM = "shrink"
STATE_FILE = "shrink.state.ndjson"
RENDER = "edgesam_export.shrink.render"
LEAST_IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images to search on, and others that confirm what was found."""

    name: str
    search: Sequence[Example]
    held_out: Sequence[Example]


@dataclass(frozen=True, kw_only=True)
class ShrinkConfig:
    """Options of a search."""

    goal: Goal
    export: CoreMLConfig = field(default_factory=CoreMLConfig)
    """Options of the packages but for their compression."""
    schemes: tuple[str, ...] = ()
    """Schemes that kernels choose among, by default ``search.SEARCHED``."""
    uniform: tuple[str, ...] | None = None
    """Schemes that are shown for comparison, one for all kernels; None: those that kernels choose among."""
    curve: int = 3
    """Further recipes that are shown, of other sizes."""
    sensitivity_images: int = 8
    """Images that kernels are compared on, at most: their order needs fewer than a bound does."""
    verify: bool = True
    """Check the packages: FP32 arithmetic on them gives what PyTorch gives with the weights as they are stored."""
    probe_encoder: bool = True
    """Measure the encoder's kernels one by one as well as the decoder's; without, slow encoders take less time."""

    def __post_init__(self) -> None:
        searched_schemes(self.schemes, self.export.target)
        if self.export.compress is not None or self.export.functions or self.export.split_encoder:
            raise UsageError("a search chooses the compression of whole packages with one number of points")


def shrink(
    model: SamModel,
    images: Images,
    output: Path,
    config: ShrinkConfig,
    *,
    recover: Recover | None = None,
    progress: Progress | None = None,
) -> ShrinkResult:
    """Search, write the packages and the reports into ``output``, and check them.

    Interrupted, the same call goes on where it was. ``recover`` trains the model on the recipe that was found.

    Raises:
        UsageError: the goal cannot be reached, too few images, another search in ``output``, or it cannot be written.
        ConversionError: coremltools refuses the model.
    """
    report = progress or (lambda *_: None)
    state = State(output / STATE_FILE, identity_of(model, images, config))
    with tempfile.TemporaryDirectory() as folder:
        plain = export_coreml(model, folder, config.export, progress=report)
        task = Task(
            model=model,
            config=config,
            images=images,
            output=output,
            recover=recover,
            state=state,
            progress=report,
            plain=plain,
        )
        result = task.run()
    names = {"recipe": RECIPE_FILE, **{suffix[1:]: f"{STEM}{suffix}" for suffix in renderers(RENDER)}}
    result = replace(result, files={kind: str(output / name) for kind, name in names.items()})
    write_reports(RENDER, result, output, STEM)
    state.remove()
    return result


def identity_of(model: SamModel, images: Images, config: ShrinkConfig) -> dict[str, Any]:
    """Return what the steps of a search depend on; goals and comparisons may change, and finished steps still count."""
    digest = hashlib.sha256()
    for example in (*images.search, *images.held_out):
        digest.update(example.name.encode("utf-8", "surrogateescape") + str(example.image.shape).encode())
        digest.update(example.image.tobytes())
    weights = None if model.provenance is None else [model.provenance.sha256, model.provenance.random_seed]
    return {
        "model": model.info.name,
        "upsample": model.info.upsample,
        "weights": weights,
        "images": digest.hexdigest()[:16],
        "schemes": searched_schemes(config.schemes, config.export.target),
        "sensitivity": [config.sensitivity_images, config.probe_encoder],
        "export": asdict(config.export),
    }


@dataclass(frozen=True, kw_only=True)
class Task:
    """One search with everything that it needs."""

    model: SamModel
    config: ShrinkConfig
    images: Images
    output: Path
    recover: Recover | None
    state: State
    progress: Progress
    plain: Sequence[Artifact]
    """The packages without compression."""

    def run(self) -> ShrinkResult:
        """Search, write, measure."""
        search = Search(
            simulation=Simulation(self.model, self.plain),
            probe_encoder=self.config.probe_encoder,
            schemes=searched_schemes(self.config.schemes, self.config.export.target),
            target=self.config.export.target,
            base_bytes=bytes_of(self.plain),
            state=self.state,
            progress=self.progress,
        )
        search.check_size(self.config.goal)
        predictor = Predictor(runner=TorchRunner(self.model))
        search.search_cases = self.cases(self.images.search, predictor, "search")
        search.sensitivity_cases = search.search_cases[: self.config.sensitivity_images]
        held_out = self.cases(self.images.held_out, predictor, "held-out")
        path, index = search.find(self.config.goal)
        export, limit = self.config.export, self.config.goal.max_bytes
        artifacts, index = write_largest(self.model, path, index, self.output, export, limit, self.progress)
        found = self.point(search, path[index], "found", held_out, artifacts=artifacts, searched=True)
        others = [self.point(search, choice, name, held_out) for name, choice in self.compared(search, path, index)]
        points = [self.point(search, {}, UNCOMPRESSED, held_out, artifacts=self.plain), *others, found]
        result = ShrinkResult(
            model=self.model.info.name,
            weights=None if self.model.provenance is None else self.model.provenance.sha256,
            goal=self.config.goal,
            images=self.images.name,
            target=export.target,
            points=tuple(by_size(points)),
            found=found,
            recipe=recipe_for(self.model, path[index]),
            artifacts=tuple(artifacts),
        )
        if self.recover is not None:
            return self.recovered(result, path[index], search.search_cases, held_out, self.recover)
        return replace(result, parity_passed=self.parity(artifacts, self.model))

    def parity(self, artifacts: Sequence[Artifact], model: SamModel) -> bool | None:
        """Return whether packages pass the check, None where it was not asked for."""
        if not self.config.verify:
            return None
        self.progress(0, 0, "parity")
        checked = verify_files(artifacts, self.output, reference=model, numerics=("fp32",), progress=self.progress)
        return checked.report.passed

    def recovered(
        self,
        result: ShrinkResult,
        choice: Choice,
        searching: Sequence[Case],
        held_out: Sequence[Case],
        recover: Recover,
    ) -> ShrinkResult:
        """Return the result with the same recipe on weights that were trained for it, where these keep more.

        Masks are still compared with those of the model before. The images of the search decide, so that what those
        held out say of the better packages stays true; the packages of trained weights then replace the first.
        """
        model = recover(result.recipe)
        found = self.trained_point(model, choice, result.found, searching, held_out)
        result = replace(result, points=(*result.points, found))
        limit = self.config.goal.max_bytes
        if not found.keeps_more_than(result.found) or (limit is not None and found.bytes > limit):
            return replace(result, parity_passed=self.parity(result.artifacts, self.model))
        artifacts = write_packages(model, choice, self.output, self.config.export, self.progress)
        return replace(
            result,
            found=found,
            compressed=result.found.held_out,
            recipe=recipe_for(model, choice),
            artifacts=tuple(artifacts),
            parity_passed=self.parity(artifacts, model),
        )

    def trained_point(
        self, model: SamModel, choice: Choice, found: Point, searching: Sequence[Case], held_out: Sequence[Case]
    ) -> Point:
        """Return what was found with the weights of ``model`` instead, its packages weighed and analysed."""
        export = self.config.export
        with tempfile.TemporaryDirectory() as folder:
            simulation = Simulation(model, export_coreml(model, folder, export, progress=self.progress))
            simulation.use(choice)
            artifacts = write_packages(model, choice, Path(folder), export, self.progress)
            return replace(
                found,
                name=RECOVERED,
                bytes=bytes_of(artifacts),
                facts=facts_of(artifacts),
                search=simulation.agreement(searching, self.progress, f"search images: {RECOVERED}"),
                held_out=simulation.agreement(held_out, self.progress, f"held-out images: {RECOVERED}"),
            )

    def cases(self, examples: Sequence[Example], predictor: Predictor, what: str) -> list[Case]:
        """Return the images that show something, with prompts and the FP32 model's masks.

        Raises:
            UsageError: there are fewer than two.
        """
        kinds = trained_kinds(self.model.info, mask_input=self.config.export.mask_input)
        found = []
        for number, example in enumerate(examples):
            self.progress(number, len(examples), f"FP32 masks of {what} images")
            case = make_case(example, predictor, kinds, number)
            if case is not None:
                found.append(case)
        if len(found) < LEAST_IMAGES:
            raise UsageError(f"{len(found)} {what} images show an object; give at least {LEAST_IMAGES} with --images")
        return found

    def compared(self, search: Search, path: Sequence[Choice], index: int) -> Iterator[tuple[str, Choice]]:
        """Yield what is shown beside what was found: uniform schemes, presets, and recipes of other sizes."""
        names = search.schemes if self.config.uniform is None else self.config.uniform
        known = [name for name, needed in PRESETS.items() if names and is_read_by(search.target, needed)]
        for name in (*names, *known):
            if choice := search.named(name):
                yield name, choice
        sizes = [search.bytes_of(choice) for choice in path]
        for number in range(self.config.curve):
            wanted = sizes[0] + (sizes[-1] - sizes[0]) * number / self.config.curve
            near = min(range(len(path)), key=lambda at: abs(sizes[at] - wanted))
            if near != index:
                yield f"recipe {sizes[near] / 1e6:.2f} MB", path[near]

    def point(
        self,
        search: Search,
        choice: Choice,
        name: str,
        cases: Sequence[Case],
        *,
        artifacts: Sequence[Artifact] | None = None,
        searched: bool = False,
    ) -> Point:
        """Return a way to store the model with its agreement on held-out images; ``artifacts`` are its packages."""
        kind: PointKind = "preset" if name in PRESETS else "uniform" if name in choice.values() else "recipe"
        text = f"held-out images: {name}"
        return Point(
            name=name,
            kind="fp16" if name == UNCOMPRESSED else kind,
            bytes=search.bytes_of(choice) if artifacts is None else bytes_of(artifacts),
            held_out=search.agreement(choice, cases, "held-out", text),
            search=search.agreement(choice, search.search_cases, "search", text) if searched else None,
            facts=None if artifacts is None else facts_of(artifacts),
        )
