"""Core ML: ML Programs in ``.mlpackage`` folders, converted by coremltools on any machine."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import ConversionError, EdgeSAMExportError, first_line
from edgesam_export.export.activations import check_activations, is_quantized
from edgesam_export.export.contract import CONTRACT_KEY, part_contract, summary
from edgesam_export.export.quiet import quiet
from edgesam_export.export.trace import TracedComponent, trace_each, trace_model, within
from edgesam_export.files import staging_folder
from edgesam_export.formats import component_path, files_folder, make_artifacts, without_module, write_companions
from edgesam_export.formats.coreml.activations import SavedComponent, quantize_activations
from edgesam_export.formats.coreml.calibration import Calibration
from edgesam_export.formats.coreml.compress import compress, folder_bytes, layer_paths
from edgesam_export.formats.coreml.passes import pipeline
from edgesam_export.formats.coreml.reproducible import make_reproducible
from edgesam_export.formats.coreml.split import copy_weights, split_model
from edgesam_export.hardware import load_hardware
from edgesam_export.mil.package import find_files
from edgesam_export.mil.program import read_model
from edgesam_export.mil.weights import WeightFile
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Artifact, CoreMLConfig, Progress, TensorSpec

__all__ = ["export_coreml"]

SUFFIX = ".mlpackage"
NUMPY_TYPES = {"fp16": np.float16, "fp32": np.float32}


def export_coreml(
    model: SamModel,
    out_dir: str | Path,
    config: CoreMLConfig | None = None,
    *,
    calibration: str | Path | Iterable[Any] | None = None,
    progress: Progress | None = None,
) -> list[Artifact]:
    """Export encoder, decoder and extra components as packages into ``out_dir``; return them in that order.

    ``calibration`` are images that ranges of quantised activations come from: a folder, paths, or uint8 (H, W, 3); by
    default the samples for the model. ``progress`` is called before each step, with its name.

    Raises:
        UsageError: options that do not fit together, an image that cannot be read, or a folder that cannot be written.
        ConversionError: coremltools refuses the program.
    """
    config = config or CoreMLConfig()
    report = progress or (lambda *_: None)
    folder = files_folder(out_dir, config)
    check_activations(config)
    calibrated = Calibration.of(model.info, calibration) if config.activations else None
    with staging_folder(folder) as staging:
        saved = save_components(model, config, staging, report)
        components = [part.component for part in saved]
        if calibrated is not None:
            quantize_activations(saved, calibrated, model.info, config, report)
        if config.functions:
            decoder = next(part for part in components if part.name == "decoder")
            add_functions(model, config, decoder, component_path(staging, decoder, SUFFIX), report)
        if config.split_encoder:
            report(0, 0, "splitting encoder")
            components[:1] = split_package(components[0], component_path(staging, components[0], SUFFIX))
        for component in components:
            make_reproducible(component_path(staging, component, SUFFIX))
    write_companions(out_dir, model.info, config)
    modules = {part.component.name: part.modules for part in saved}
    return make_artifacts(folder, components, format="coreml", suffix=SUFFIX, modules=modules)


def save_components(model: SamModel, config: CoreMLConfig, folder: Path, report: Progress) -> list[SavedComponent]:
    """Convert and save every component, one after the other so that their weights are never together in memory."""
    saved = []
    report(0, 0, "tracing")
    for component in trace_each(model, config, format="coreml"):
        report(0, 0, f"converting {component.name}")
        path = component_path(folder, component, SUFFIX)
        saved.append(save_package(component, config, path))
        del component
    return saved


def save_package(component: TracedComponent, config: CoreMLConfig, path: Path) -> SavedComponent:
    """Convert and save one component; return it without its weights, and which modules its operations come from.

    Raises:
        ConversionError: coremltools refuses; the message has its first line.
    """
    with quiet():
        try:
            package = convert(component, config)
            modules = module_paths(package, {path for path, _ in component.traced.named_modules()})
            # compression gives kernels other constants
            layers = layer_paths(package, component, modules) if is_quantized(config, component.name) else {}
            if config.compress is not None:
                package = compress(package, component, config.compress)
            note_size(component.contract, Path(package.weights_dir))
            describe(package, component)
            package.save(str(path))
        except (OSError, EdgeSAMExportError):
            raise
        except Exception as error:
            raise ConversionError(f"coremltools could not convert {component.name}: {first_line(error)}") from error
    return SavedComponent(component=without_module(component), path=path, modules=modules, layers=layers)


def convert(component: TracedComponent, config: CoreMLConfig) -> Any:
    """Return coremltools' MLModel of a traced component."""
    import coremltools as ct

    precision = ct.precision.FLOAT32
    if config.precision == "fp16":
        precision = ct.transform.FP16ComputePrecision(
            op_selector=lambda op: not within(module_path(op), component.fp32_modules)
        )
    return ct.convert(
        component.traced,
        convert_to="mlprogram",
        inputs=[input_type(spec, component.free_dims) for spec in component.inputs],
        outputs=[ct.TensorType(name=spec.name, dtype=NUMPY_TYPES[spec.dtype]) for spec in component.outputs],
        minimum_deployment_target=getattr(ct.target, config.target),
        compute_precision=precision,
        pass_pipeline=pipeline(),
        skip_model_load=True,
    )


def input_type(spec: TensorSpec, free_dims: dict[str, tuple[int, int]]) -> Any:
    """Return coremltools' description of an input."""
    import coremltools as ct

    if spec.dtype == "image":
        return ct.ImageType(name=spec.name, shape=spec.shape, color_layout=ct.colorlayout.RGB)
    shape = [
        ct.RangeDim(*free_dims[size], default=free_dims[size][0]) if isinstance(size, str) else size
        for size in spec.shape
    ]
    return ct.TensorType(name=spec.name, shape=tuple(shape), dtype=NUMPY_TYPES[spec.dtype])


def module_path(op: Any) -> str:
    """Return the dotted path of the torch module that an operation was traced in, empty when it is not known.

    Containers that are not called themselves, such as a ``ModuleList``, do not appear in it.
    """
    from coremltools.converters.mil.mil.scope import ScopeSource

    # The innermost scope is the traced value's own name.
    return ".".join(op.scopes.get(ScopeSource.TORCHSCRIPT_MODULE_NAME, [])[:-1])


def module_paths(package: Any, known: set[str]) -> dict[str, str]:
    """Return operation name -> dotted torch module path (one of ``known``), for every operation that still knows it."""
    operations = [op for function in package._mil_program.functions.values() for op in function.operations]
    paths = {op.outputs[0].name: module_path(op) for op in operations if op.op_type != "const"}
    full = {path: with_containers(path, known) for path in set(paths.values())}
    return {name: full[path] for name, path in paths.items() if path}


def with_containers(path: str, known: set[str]) -> str:
    """Return ``path`` with the modules between its parts put back: the fewest, as far as they are unambiguous.

    What is missing are containers, and modules whose parts were called without them.
    """
    found = ""
    for part in path.split(".") if path else []:
        direct = f"{found}.{part}".lstrip(".")
        inside = [p for p in known if p.startswith(f"{found}." if found else "") and p.endswith(f".{part}")]
        nearest = min((p.count(".") for p in inside), default=0)
        inside = [p for p in inside if p.count(".") == nearest]
        found = direct if direct in known or len(inside) != 1 else inside[0]
    return found


def describe(package: Any, component: TracedComponent) -> None:
    """Write descriptions, licence and contract into the package's metadata."""
    contract = component.contract
    package.short_description = summary(contract)
    package.author = f"edgesam-export {contract['versions']['edgesam-export']}"
    package.license = contract["weights"]["licence"]
    package.version = contract["versions"]["edgesam-export"]
    package.user_defined_metadata[CONTRACT_KEY] = json.dumps(contract, sort_keys=True, allow_nan=False)
    descriptions = {spec.name: spec.description for spec in (*component.inputs, *component.outputs)}
    stated = package._spec.description  # input_description knows no package of several functions (coremltools 9.0)
    for group in (stated, *stated.functions):
        for feature in (*group.input, *group.output):
            feature.shortDescription = descriptions.get(feature.name, "")


def note_size(contract: dict[str, Any], weights: Path) -> None:
    """Write the bytes of a package's weights into its contract, and a warning if a phone does not load so many."""
    contract["weight_bytes"] = folder_bytes(weights)
    limit = int(load_hardware().limits["max_package_bytes"].value)
    others = [text for text in contract.pop("warnings", ()) if not text.startswith("C01")]
    if contract["weight_bytes"] > limit:
        others.append(
            f"C01: {contract['weight_bytes'] / 1e9:.2f} GB of weights in one package, the Neural Engine on iOS takes "
            f"{limit / 1e9:.2f} GB; export with --split-encoder"
        )
    if others:
        contract["warnings"] = others


def split_package(component: TracedComponent, path: Path) -> list[TracedComponent]:
    """Replace the package at ``path`` by two, ``..._part1`` and ``..._part2``, that are run one after the other.

    Raises:
        ConversionError: there is no point at which it can be cut.
    """
    import coremltools as ct

    files = find_files(path)
    weights = WeightFile(files.model.parent / "weights" / "weight.bin")
    models = split_model(read_model(files), weights)
    crossing = crossing_tensors(models[1].description.input)
    ends = ((component.inputs, crossing), (crossing, component.outputs))
    parts = []
    for number, (model, (inputs, outputs)) in enumerate(zip(models, ends), 1):
        contract = part_contract(component.contract, number, inputs, outputs)
        part = replace(component, inputs=inputs, outputs=outputs, contract=contract)
        with tempfile.TemporaryDirectory(prefix=".edgesam-export-", dir=path.parent.parent) as folder, quiet():
            copy_weights(model, weights, Path(folder) / "weight.bin")
            note_size(contract, Path(folder))
            package = ct.models.MLModel(model, weights_dir=folder, skip_model_load=True)
            describe(package, part)
            package.save(str(component_path(path.parent, part, SUFFIX)))
        parts.append(part)
    shutil.rmtree(path)
    return parts


def crossing_tensors(features: Any) -> tuple[TensorSpec, ...]:
    """Return the tensors that go from the first part to the second."""
    from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType

    types = {ArrayFeatureType.FLOAT16: "fp16", ArrayFeatureType.FLOAT32: "fp32"}
    return tuple(
        TensorSpec(
            name=feature.name,
            shape=tuple(feature.type.multiArrayType.shape),
            dtype=types.get(feature.type.multiArrayType.dataType, "int32"),
            description="from the first part of the encoder to the second",
        )
        for feature in features
    )


def add_functions(
    model: SamModel, config: CoreMLConfig, decoder: TracedComponent, path: Path, report: Progress
) -> None:
    """Replace the decoder at ``path`` by one package with a function per number of prompt slots, weights shared.

    Function ``main`` has ``config.points`` slots; the others are called ``points_<N>``.
    """
    import coremltools as ct

    decoder.contract["functions"] = {"main": config.points, **{f"points_{n}": n for n in config.functions}}
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder, quiet():
        parts = Path(folder)
        descriptor = ct.utils.MultiFunctionDescriptor()
        first = path.rename(parts / f"points_{config.points}{SUFFIX}")
        descriptor.add_function(str(first), "main", "main")
        for count in config.functions:
            report(0, 0, f"converting decoder with {count} prompt slots")
            one = replace(config, points=count, functions=())
            part = parts / f"points_{count}{SUFFIX}"
            traced = trace_model(model, one, format="coreml")
            save_package(next(other for other in traced if other.name == decoder.name), one, part)
            descriptor.add_function(str(part), "main", f"points_{count}")
        descriptor.default_function_name = "main"
        joined = parts / f"joined{SUFFIX}"
        ct.utils.save_multifunction(descriptor, str(joined))
        package = ct.models.MLModel(str(joined), skip_model_load=True)
        describe(package, decoder)
        package.save(str(path))
