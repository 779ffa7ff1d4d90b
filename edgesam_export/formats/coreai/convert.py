"""Core AI: assets in ``.aimodel`` folders, converted by Apple's coreai-torch where its wheels install. Experimental."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgesam_export.coreai.availability import PINNED, require_coreai
from edgesam_export.errors import ConversionError, EdgeSAMExportError, first_line
from edgesam_export.export.quiet import quiet
from edgesam_export.export.trace import TracedComponent, keep_module, trace_each
from edgesam_export.files import staging_folder
from edgesam_export.formats import component_path, make_artifacts, without_module
from edgesam_export.formats.coreai.compress import compress
from edgesam_export.formats.coreai.metadata import write_metadata
from edgesam_export.formats.coreai.precision import to_fp16
from edgesam_export.formats.coreai.program import make_reproducible, module_paths
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Artifact, CoreAIConfig, Progress

__all__ = ["export_coreai"]

SUFFIX = ".aimodel"
PROGRAM = "main.mlirb"
TEXT_BYTES = 4 << 20
"""More than a program takes without its constants; 0.2 MB were seen."""
CHUNK_BYTES = 1 << 20
MAIN = "main"


def export_coreai(
    model: SamModel,
    out_dir: str | Path,
    config: CoreAIConfig | None = None,
    *,
    progress: Progress | None = None,
) -> list[Artifact]:
    """Export encoder, decoder and extra components as assets into ``out_dir``; return them in that order.

    ``progress`` is called before each step, with its name.

    Raises:
        RunnerUnavailableError: Apple's packages are not here, or not in the version that this works with.
        UsageError: options that do not fit together, or a folder that cannot be written.
        ConversionError: coreai-torch refuses the program.
    """
    require_coreai()
    config = config or CoreAIConfig()
    report = progress or (lambda *_: None)
    out_dir = Path(out_dir)
    modules = {}
    with staging_folder(out_dir) as staging:
        report(0, 0, "preparing")
        components = []
        for component in trace_each(model, config, format="coreai", capture=keep_module):
            report(0, 0, f"converting {component.name}")
            functions = {MAIN: component}
            if component.name == "decoder" and config.functions:
                functions |= more_functions(model, config)
                component.contract["functions"] = {name: part.contract["slots"] for name, part in functions.items()}
            modules[component.name] = save_asset(functions, config, component_path(staging, component, SUFFIX))
            components.append(without_module(component))
            del component, functions
    return make_artifacts(out_dir, components, format="coreai", suffix=SUFFIX, modules=modules)


def more_functions(model: SamModel, config: CoreAIConfig) -> dict[str, TracedComponent]:
    """Return the decoders with the further numbers of prompt slots, ``points_<N>`` each."""
    found = {}
    for count in config.functions:
        parts: Iterator[TracedComponent] = trace_each(
            model, replace(config, points=count, functions=()), format="coreai", capture=keep_module
        )
        found[f"points_{count}"] = next(part for part in parts if part.name == "decoder")
    return found


def save_asset(functions: dict[str, TracedComponent], config: CoreAIConfig, path: Path) -> dict[str, str]:
    """Convert and save a component; return the map from operation name to torch module path.

    Raises:
        ConversionError: coreai-torch refuses; the message has its first line.
    """
    component = functions[MAIN]
    component.contract["versions"] |= {name: version(name) for name in PINNED}
    component.contract["experimental"] = True
    with quiet():
        try:
            if config.compress is not None:
                stored = {name: compress(part, config.compress) for name, part in functions.items()}
                component.contract["compression"] = stored[MAIN]
            programs = {name: capture(part) for name, part in functions.items()}
            program = convert(programs, component)
            modules = module_paths(program, convert(programs, component, mode="debug"), programs)
            save(program, path)
        except (OSError, EdgeSAMExportError):
            raise
        except Exception as error:
            raise ConversionError(f"coreai-torch could not convert {component.name}: {first_line(error)}") from error
        note_size(component.contract, path / PROGRAM)
        write_metadata(path, component.contract)
        return modules


def save(program: Any, path: Path) -> None:
    """Write a program into an asset that is the same at every export.

    Raises:
        OSError: the disk has no room for it.
    """
    constant_bytes = make_reproducible(program)
    # Apple's writer ends the process when the disk is full, so the room is tried out before.
    with tempfile.TemporaryFile(dir=path.parent) as trial:
        for _ in range(1 + (constant_bytes + TEXT_BYTES) // CHUNK_BYTES):
            trial.write(bytes(CHUNK_BYTES))
    program.save_asset(path)


def note_size(contract: dict[str, Any], program: Path) -> None:
    """Write the bytes of a program, nearly all of them weights, into its contract."""
    contract["weight_bytes"] = program.stat().st_size
    if compression := contract.get("compression"):
        saved = compression.pop("bytes_saved")
        contract["compression"] = {
            **compression,
            "bytes_before": contract["weight_bytes"] + saved,
            "bytes_after": contract["weight_bytes"],
        }


def capture(component: TracedComponent) -> torch.export.ExportedProgram:
    """Return a component as torch.export captures it, in the types of its contract."""
    from coreai_torch import get_decomp_table

    with torch.no_grad():
        program = torch.export.export(component.traced, component.example)
        program = program.run_decompositions(get_decomp_table())
    if component.contract["precision"] == "fp16":
        program = to_fp16(program, component.inputs, component.outputs, component.fp32_modules)
    return program


def convert(
    programs: dict[str, torch.export.ExportedProgram], component: TracedComponent, mode: str = "release"
) -> Any:
    """Return Core AI's program with a function for each exported program.

    Mode ``debug`` writes the nodes that operations are made of, but also paths of source files.
    """
    from coreai_torch import TorchConverter

    converter = TorchConverter(mode=TorchConverter.Mode(mode))
    for name, program in programs.items():
        converter.add_exported_program(
            program,
            input_names=[spec.name for spec in component.inputs],
            output_names=[spec.name for spec in component.outputs],
            entrypoint_name=name,
        )
    return converter.to_coreai()
