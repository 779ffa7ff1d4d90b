"""Activations of saved packages in 8 bits: which layers, by what ranges, and what the contract says of it.

Candidates are the layers that read FP16 values. Those without work to speak of stay as they are, and so do those that
a user names. Of the rest the worst go, one after the other, until the outputs keep the signal to noise asked for: each
layer is quantised alone first, and since their errors are nearly independent, their noise powers add up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import log10, prod
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.export.activations import QuantizedLayer, quantization_of, quantized_layers
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.trace import TracedComponent, within
from edgesam_export.formats.coreml.calibration import (
    TAIL,
    Calibration,
    Feed,
    decoder_feeds,
    encoder_feeds,
    histograms_of,
)
from edgesam_export.formats.coreml.pairs import READERS, insert_pairs
from edgesam_export.mil.graph import Operation
from edgesam_export.mil.package import ModelFiles, find_files
from edgesam_export.mil.program import Program, program_of, read_model
from edgesam_export.spec import CoreMLConfig, ModelInfo, Progress

__all__ = ["SavedComponent", "quantize_activations", "write_pairs"]

NO_WORK = 1e-3
"""Share of a component's multiply-adds below which 8 bits cannot pay for the pair: squeeze-and-excitation layers."""
ALONE = 1
"""Images that each layer is tried on alone; the chosen layers together are measured on all."""
JUDGED = {"decoder": ("masks",)}
"""Outputs of a component that the bound is on, where it is not all of them."""


@dataclass(frozen=True, kw_only=True)
class SavedComponent:
    """A package as it was converted, and what is known of its operations only then."""

    component: TracedComponent
    path: Path
    modules: dict[str, str]
    """Name of an operation -> path of the module that it comes from."""
    layers: Mapping[str, str]
    """Output of a convolution or linear layer -> path of the one layer whose weight it computes with."""


@dataclass(frozen=True, kw_only=True)
class OpenPackage:
    """A saved package, read once: its message and its program."""

    saved: SavedComponent
    files: ModelFiles
    model: Any
    program: Program
    candidates: dict[str, Operation]
    """Path -> operation of each layer that reads an FP16 value, and that one operation alone computes."""

    @classmethod
    def of(cls, saved: SavedComponent) -> OpenPackage:
        """Return a component's package, read."""
        files = find_files(saved.path)
        model = read_model(files)
        program = program_of(model, files)
        return cls(saved=saved, files=files, model=model, program=program, candidates=candidates(program, saved))

    @property
    def name(self) -> str:
        """Name of the component."""
        return self.saved.component.name

    def with_pairs(self, layers: Sequence[QuantizedLayer]) -> Any:
        """Return a copy of the message whose ``layers`` read integers."""
        model = type(self.model)()
        model.CopyFrom(self.model)
        insert_pairs(model, layers, {path: operation.label for path, operation in self.candidates.items()})
        return model

    def save_pairs(self) -> None:
        """Write the pairs that the component's contract lists into the package, and the contract itself."""
        contract = self.saved.component.contract
        model = self.with_pairs(quantized_layers(contract, str(self.saved.path)))
        text = json.dumps(contract, sort_keys=True, allow_nan=False)
        model.description.metadata.userDefined[CONTRACT_KEY] = text
        self.files.model.write_bytes(model.SerializeToString())


@dataclass(kw_only=True)
class Search:
    """One component while its layers are chosen."""

    package: OpenPackage
    layers: dict[str, QuantizedLayer]
    feeds: list[Feed]
    report: Callable[[int, int], None]
    work: dict[str, int]
    """Multiply-adds of each layer."""
    total_work: int
    """Of all convolutions and linear layers of the component."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def outputs(self, paths: Sequence[str], feeds: Sequence[Feed]) -> list[dict[str, Any]]:
        """Return the outputs in exact arithmetic with these layers quantised."""
        program = program_of(self.package.with_pairs([self.layers[path] for path in paths]), self.package.files)
        return [program.predict(feed, numerics="fp32") for feed in feeds]

    def choose(self, bound_db: float) -> tuple[list[str], float]:
        """Return the layers that stay quantised and the signal to noise that they leave.

        Raises:
            UsageError: none stays.
        """
        name = self.package.name
        exact = self.outputs([], self.feeds)
        noise = self.noise_alone(exact[:ALONE]) if bound_db else {}
        allowed = 10 ** (-bound_db / 10)
        chosen = list(self.layers)
        while True:
            while chosen and noise and sum(noise[path] for path in chosen) > allowed:
                worst = max(chosen, key=noise.__getitem__)
                chosen.remove(worst)
                self.kept[worst] = {"reason": "sensitivity", "alone_db": decibels(noise[worst])}
            if not chosen:
                raise UsageError(
                    f"no layer of the {name} can be quantised within {bound_db:g} dB; give a lower --activations-db,"
                    " or leave activations out"
                )
            measured = noise_share(exact, self.outputs(chosen, self.feeds), JUDGED.get(name))
            if not bound_db or measured <= 10 ** (-bound_db / 10):
                return chosen, decibels(measured)
            # the estimate was too low by this factor; at least the worst layer goes
            total = sum(noise[path] for path in chosen)
            allowed = min(total * 10 ** (-bound_db / 10) / measured, total * (1 - 1e-9))

    def noise_alone(self, exact: list[dict[str, Any]]) -> dict[str, float]:
        """Return the noise that each layer leaves when it alone is quantised, as a share of the signal's power."""
        found = {}
        for number, path in enumerate(self.layers):
            self.report(number, len(self.layers))
            outputs = self.outputs([path], self.feeds[: len(exact)])
            found[path] = noise_share(exact, outputs, JUDGED.get(self.package.name))
        return found


def noise_share(
    exact: Sequence[dict[str, Any]], actual: Sequence[dict[str, Any]], judged: Sequence[str] | None
) -> float:
    """Return the power of the error over that of the exact values, of the worst output."""
    shares = []
    for name in judged or exact[0]:
        sides = [(np.asarray(a[name], np.float64), np.asarray(b[name], np.float64)) for a, b in zip(exact, actual)]
        signal = sum(float(np.square(a).sum()) for a, _ in sides)
        shares.append(sum(float(np.square(a - b).sum()) for a, b in sides) / signal if signal else 0.0)
    return max(shares)


def decibels(share: float) -> float:
    """Return the signal to noise of a share of noise, to a tenth; at most 200 dB."""
    return round(-10 * log10(max(share, 1e-20)), 1)


# ------------------------------------------------------------------------------------------------------------ an export
def quantize_activations(
    parts: Sequence[SavedComponent],
    calibration: Calibration,
    info: ModelInfo,
    config: CoreMLConfig,
    report: Progress,
) -> None:
    """Let layers of the saved packages read integers; their contracts say which, in the file and in ``parts``.

    Raises:
        UsageError: a layer to keep that is not there, or nothing that can be quantised.
    """
    by_name = {part.component.name: part for part in parts}
    encoder = OpenPackage.of(by_name["encoder"])
    feeds = encoder_feeds(calibration, encoder.saved.component.contract, info)
    asked = [(encoder, feeds)]
    if config.activations_in == "both":
        decoder = OpenPackage.of(by_name["decoder"])
        embeddings = [encoder.program.predict(feed, numerics="fp32") for feed in feeds]
        contract = decoder.saved.component.contract
        asked.append((decoder, decoder_feeds(calibration, embeddings, decoder.program, contract, info)))
    require_layers(config.keep_fp16, [package for package, _ in asked])
    for package, component_feeds in asked:
        report(0, 0, f"calibrating {package.name}")
        search = search_of(package, component_feeds, config, report)
        chosen, left = search.choose(config.activations_db)
        package.saved.component.contract["activations"] = {
            "dtype": config.activations,
            "images": calibration.entry(),
            "range": f"all but {TAIL:g} of the values on either side",
            "signal_to_noise_db": left,
            "bound_db": config.activations_db,
            "work_share": round(sum(search.work[path] for path in chosen) / search.total_work, 4),
            "layers": {path: search.layers[path].entry() for path in chosen},
            "kept_fp16": dict(sorted(search.kept.items())),
        }
        package.save_pairs()


def require_layers(kept: Sequence[str], packages: Sequence[OpenPackage]) -> None:
    """Raise UsageError unless every path that a user names holds a layer."""
    known = sorted({path for package in packages for path in package.candidates})
    for name in kept:
        if not any(within(path, [name]) for path in known):
            near = get_close_matches(name, known, 3, 0.3) or known[:3]
            raise UsageError(f"keep_fp16 {name}: no such layer or module; near it: {', '.join(near)}")


def search_of(package: OpenPackage, feeds: list[Feed], config: CoreMLConfig, report: Progress) -> Search:
    """Return a component with the layers that can be quantised and their ranges."""
    name, program = package.name, package.program
    work = multiply_adds(program)
    found = dict(package.candidates)
    kept: dict[str, dict[str, Any]] = {}
    for path, operation in list(found.items()):
        asked = within(path, config.keep_fp16)
        if asked or work[operation.label] < NO_WORK * sum(work.values()):
            kept[path] = {"reason": "asked for" if asked else "little work"}
            del found[path]
    tensors = {path: operand(operation, "x") for path, operation in found.items()}
    histograms = histograms_of(program, dict.fromkeys(tensors.values()), feeds)
    program.release()
    ranges = {tensor: histogram.range() for tensor, histogram in histograms.items()}
    layers = {}
    for path, tensor in tensors.items():
        ends = ranges[tensor]
        quantization = None if ends is None else quantization_of(*ends)
        if quantization is None:
            kept[path] = {"reason": "no range"}
        else:
            layers[path] = QuantizedLayer(path=path, tensor=tensor, quantization=quantization)
    if not layers:
        raise UsageError(f"activations {config.activations} finds no layer of the {name} that it applies to")
    return Search(
        package=package,
        layers=layers,
        work={path: work[operation.label] for path, operation in found.items()},
        total_work=sum(work.values()),
        feeds=feeds,
        report=lambda done, total: report(done, total, f"trying layers of the {name}"),
        kept=kept,
    )


def write_pairs(saved: SavedComponent) -> None:
    """Write the pairs that a component's contract lists into its package, and the contract itself."""
    OpenPackage.of(saved).save_pairs()


# ----------------------------------------------------------------------------------------------------------- candidates
def candidates(program: Program, saved: SavedComponent) -> dict[str, Operation]:
    """Return path -> operation of each layer that reads an FP16 value, and that one operation alone computes."""
    types = {output.name: output.type for op in program.operations for output in op.outputs}
    types |= {value.name: value.type for value in program.function.inputs}
    found: dict[str, list[Operation]] = {}
    for operation in program.function.block.operations:
        path = saved.layers.get(operation.label) if operation.type in READERS else None
        source = types.get(operand(operation, "x"))
        if path is not None and source is not None and source.dtype == "fp16" and source.fixed_shape:
            found.setdefault(path, []).append(operation)
    return {path: operations[0] for path, operations in found.items() if len(operations) == 1}


def operand(operation: Operation, key: str) -> str:
    """Return the name of an operand, empty for a constant in place."""
    (argument,) = operation.inputs.get(key, ("",))
    return argument if isinstance(argument, str) else ""


def multiply_adds(program: Program) -> dict[str, int]:
    """Return the multiply-adds of every convolution and linear layer by its output."""
    shapes = {output.name: output.type.fixed_shape or () for op in program.operations for output in op.outputs}
    return {
        op.label: prod(shapes[op.label]) * prod(shapes.get(operand(op, "weight"), ())[1:])
        for op in program.operations
        if op.type in READERS
    }
