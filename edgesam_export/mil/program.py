"""Loading an ML Program from disk and predicting with it. The declared types of the file are the authority."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from edgesam_export.errors import ProgramError, RunnerUnavailableError, printable
from edgesam_export.files import sha256_of, stand_in
from edgesam_export.mil.decode import Decoder
from edgesam_export.mil.descriptions import decode_features
from edgesam_export.mil.features import FeatureSpec, ProgramState, check_feed, read_output
from edgesam_export.mil.graph import Function, Operation
from edgesam_export.mil.package import ModelFiles, find_files
from edgesam_export.mil.types import CARRIER_NAMES, StateBox, ValueType

if TYPE_CHECKING:  # only executing needs torch; looking at a program is quick without it
    import torch

    from edgesam_export.mil.interpreter import PreparedFunction, Probe

__all__ = ["Program", "load_program", "program_of", "read_model"]

SPEC_VERSIONS = range(6, 11)
"""Specification versions that can hold an ML Program: iOS 15 (6) to iOS 26 (10)."""
MESSAGES = "edgesam_export_coreml_messages"
MAX_MODEL_BYTES = 2 << 30
"""Protobuf can hold no more."""


class Program:
    """One function of an ML Program, loaded and checked; nothing of it is executed before ``predict``."""

    def __init__(
        self,
        *,
        files: ModelFiles,
        function: Function,
        features: Mapping[str, tuple[FeatureSpec, ...]],
        functions: tuple[str, ...],
        metadata: Mapping[str, str],
    ) -> None:
        self.files = files
        self.function = function
        self.inputs = features["input"]
        self.outputs = features["output"]
        self.states = features["state"]
        self.functions = functions
        self.metadata = dict(metadata)
        self.prepared: dict[tuple[str, str], PreparedFunction] = {}
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Program({str(self.path)!r}, function={self.function.name!r}, opset={self.opset!r})"

    @property
    def path(self) -> Path:
        return self.files.path

    @property
    def opset(self) -> str:
        """Op set the function was written for, e.g. ``iOS17``."""
        return self.function.opset

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation in program order, constants and those of nested blocks included."""
        return tuple(self.function.block.walk())

    @cached_property
    def sha256(self) -> str:
        """Digest of the file or package, the one that ``export.json`` records."""
        return sha256_of(self.path)

    def make_state(self) -> ProgramState:
        """Return fresh state for ``predict``: zeros, as Core ML starts."""
        import torch

        declared = self.declared_inputs()
        carriers = {s.name: getattr(torch, CARRIER_NAMES[inner_dtype(declared[s.name])]) for s in self.states}
        boxes = {s.name: StateBox(torch.zeros(s.shape, dtype=carriers[s.name])) for s in self.states}
        return ProgramState(boxes, {s.name: s.dtype for s in self.states})

    def predict(
        self,
        feed: Mapping[str, Any],
        *,
        numerics: str = "fp16",
        state: ProgramState | None = None,
        probe: Probe | None = None,
        device: str = "cpu",
    ) -> dict[str, Any]:
        """Return the outputs by name, as NumPy arrays of their declared type.

        With ``numerics="fp32"`` FP16 outputs come back as float32, their precision kept; an image is a uint8 array
        (height, width[, 3]) in RGB order; a classifier's label and probabilities are Python values.
        ``probe(op, name, value)`` sees every value an operation produces. ``device="cuda"`` computes there.

        Raises:
            ProgramError: the feed does not fit, or an operation failed (named in the message).
            UnsupportedOpError: an operation the executor does not have, before anything runs.
        """
        target = usable_device(device)
        prepared = self.prepare(numerics, target)
        values: dict[str, Any] = dict(check_feed(self.inputs, self.declared_inputs(), feed, target))
        values.update(self.state_boxes(state, target))
        results = dict(zip(self.function.block.outputs, prepared.run(values, probe)))
        held = prepared.numerics.held_dtype
        return {spec.name: read_output(spec, results[spec.name], held(spec.dtype)) for spec in self.outputs}

    def prepare(self, numerics: str = "fp16", device: torch.device | str = "cpu") -> PreparedFunction:
        """Return the function ready to run: ops looked up, constants in memory; done once per policy and device."""
        import torch

        from edgesam_export.mil.interpreter import PreparedFunction
        from edgesam_export.mil.numerics import numerics_for

        key = (numerics, str(device))
        with self.lock:
            if key not in self.prepared:
                policy = numerics_for(numerics)
                self.prepared[key] = PreparedFunction(self.function, policy, torch.device(device))
            return self.prepared[key]

    def release(self) -> None:
        """Forget what ``prepare`` made, and with it the weights in memory."""
        with self.lock:
            self.prepared.clear()

    def declared_inputs(self) -> dict[str, ValueType]:
        return {value.name: value.type for value in self.function.inputs}

    def state_boxes(self, state: ProgramState | None, device: torch.device) -> dict[str, StateBox]:
        names = {spec.name for spec in self.states}
        if not names and state is None:
            return {}
        if state is None:
            raise ProgramError(
                f"this program keeps state ({', '.join(sorted(names))}): pass state=program.make_state()"
            )
        if state.boxes.keys() != names:
            raise ProgramError(
                f"state of another program: it holds {', '.join(sorted(state.boxes)) or 'nothing'}, "
                f"this one keeps {', '.join(sorted(names)) or 'none'}"
            )
        for spec in self.states:
            box = state.boxes[spec.name]
            if tuple(box.value.shape) != spec.shape:
                raise ProgramError(f"state '{spec.name}' has shape {tuple(box.value.shape)}; expected {spec.expected}")
            box.value = box.value.to(device)
        return state.boxes


def inner_dtype(declared: ValueType) -> str:
    return declared.element.dtype if declared.element is not None else declared.dtype


def usable_device(name: str) -> torch.device:
    """Return the torch device called ``name``; CUDA was not there when this was tested.

    Raises:
        RunnerUnavailableError: this machine does not have it.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunnerUnavailableError(f"cannot compute on device '{name}' here: {reason}; use cpu") from None
    return device


def load_program(path: str | Path, *, function: str | None = None, require_weights: bool = True) -> Program:
    """Return the ML Program in a ``.mlpackage`` or ``.mlmodel``; ``function`` names one of a multifunction package.

    Without ``require_weights`` a missing weight file is no error: its constants have no value, and the program can be
    looked at but not executed.

    Raises:
        ProgramError: no such file, damaged, another type of model, or a program that does not hold together.
    """
    files = find_files(Path(path))
    return program_of(read_model(files), files, function=function, require_weights=require_weights)


def program_of(model: Any, files: ModelFiles, *, function: str | None = None, require_weights: bool = True) -> Program:
    """Return the program of a model's message, which need not be the one in the package that its weights lie in.

    Raises:
        ProgramError: a program that does not hold together.
    """
    functions = model.mlProgram.functions
    name = function or model.description.defaultFunctionName or "main"
    if name not in functions:
        raise ProgramError(
            f"{files.path}: no function '{printable(name)}'; it has {', '.join(map(printable, sorted(functions)))}"
        )
    decoded = Decoder(files, require_weights=require_weights).function(name, functions[name])
    return Program(
        files=files,
        function=decoded,
        features=decode_features(model.description, decoded, files.path),
        functions=tuple(sorted(functions)),
        metadata=read_metadata(model.description.metadata),
    )


def read_metadata(message: Any) -> dict[str, str]:
    """Return the authors' metadata: their own keys, and ``description``, ``author``, ``license``, ``version``."""
    fields = {"shortDescription": "description", "author": "author", "license": "license", "versionString": "version"}
    stated = {key: getattr(message, name) for name, key in fields.items() if getattr(message, name)}
    return {**stated, **message.userDefined}


def model_message() -> Any:
    """Return an empty ``Model`` message of the installed coremltools.

    Only its generated message classes are imported, under a package name of our own: importing coremltools itself takes
    2 s, fifty times longer, and prints warnings on every machine that is not a Mac. Both ways give the same class.
    """
    if MESSAGES not in sys.modules:
        spec = importlib.util.find_spec("coremltools")
        if spec is None or not spec.submodule_search_locations:
            raise RunnerUnavailableError("reading Core ML models needs coremltools: pip install coremltools")
        package = ModuleType(MESSAGES)
        package.__path__ = [str(Path(folder) / "proto") for folder in spec.submodule_search_locations]
        sys.modules[MESSAGES] = package
    return importlib.import_module(f"{MESSAGES}.Model_pb2").Model()


def read_model(files: ModelFiles) -> Any:
    """Return the protobuf message of a model that holds an ML Program.

    Raises:
        ProgramError: not readable, or not an ML Program.
    """
    from google.protobuf.message import DecodeError

    model = model_message()
    try:
        if files.model.stat().st_size > MAX_MODEL_BYTES:
            raise ProgramError(f"{files.path}: {files.model.name} is larger than a model file can be (2 GiB)")
        model.ParseFromString(files.model.read_bytes())
    except OSError as error:
        raise ProgramError(f"{files.path}: cannot read {files.model.name} ({error.strerror})") from None
    except DecodeError:
        found = "is an archive; unpack it" if is_zipfile(files.model) else "is not a Core ML model, or is damaged"
        found = stand_in(files.model) or found
        raise ProgramError(f"{files.path}: {files.model.name} {found}") from None
    kind = model.WhichOneof("Type")
    if kind is None:
        raise ProgramError(f"{files.path}: {files.model.name} is not a Core ML model, or is empty")
    if kind != "mlProgram":
        raise ProgramError(
            f"{files.path}: this is a {kind} model; {ADVICE.get(kind, 'only ML Programs can be executed')}"
        )
    if model.specificationVersion not in SPEC_VERSIONS:
        raise ProgramError(
            f"{files.path}: specification version {model.specificationVersion} is not known to this version, "
            f"which reads ML Programs of {SPEC_VERSIONS[0]} to {SPEC_VERSIONS[-1]}"
        )
    return model


CONVERT = "convert it to an ML Program (coremltools: convert_to='mlprogram', minimum_deployment_target iOS15 or newer)"
SPLIT = "load the ML Programs inside it one by one"
ADVICE = {
    "neuralNetwork": CONVERT,
    "neuralNetworkClassifier": CONVERT,
    "neuralNetworkRegressor": CONVERT,
    "pipeline": SPLIT,
    "pipelineClassifier": SPLIT,
    "pipelineRegressor": SPLIT,
}
