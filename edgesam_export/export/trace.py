"""SamModel -> components ready for a converter: rewrites, the profile's wrappers, then ``torch.jit.trace``.

A format whose converter starts from the module itself takes it untraced (``capture=keep_module``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from edgesam_export.errors import ConversionError, UsageError
from edgesam_export.export.contract import make_contract
from edgesam_export.modeling.sam import SamModel
from edgesam_export.profiles import Component, find_profile
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites, replace_modules
from edgesam_export.spec import EVERY_FORMAT, ExportConfig, TensorSpec

__all__ = [
    "TracedComponent",
    "build_components",
    "fp32_modules",
    "keep_module",
    "trace_component",
    "trace_each",
    "trace_model",
    "traced_outputs",
    "within",
]


@dataclass(frozen=True, kw_only=True)
class TracedComponent:
    """A component as TorchScript or as its module, with everything that a format needs to know about it."""

    name: str
    module: torch.nn.Module | None
    """None once it is converted: its weights may be large."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    example: tuple[torch.Tensor, ...]
    free_dims: dict[str, tuple[int, int]]
    contract: dict[str, Any]
    fp32_modules: tuple[str, ...]
    """Dotted paths of the modules whose arithmetic stays FP32 in an FP16 export of this format."""
    file_stem: str = ""
    """Name of the file without its suffix, where the consumer has one."""

    @property
    def traced(self) -> torch.nn.Module:
        """The module, of a component that is not converted yet."""
        if self.module is None:
            raise ConversionError(f"{self.name} is converted already; trace it again")
        return self.module


Example = tuple[torch.Tensor, ...]
Capture = Callable[[torch.nn.Module, Example], torch.nn.Module]
"""What becomes of a module before it is converted; the other argument are its example inputs."""


def script_module(module: torch.nn.Module, example: Example) -> torch.nn.Module:
    """Return a module as TorchScript."""
    with warnings.catch_warnings():
        # Shapes are constants of a fixed export; with free dimensions they stay in the graph.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # of torch's own
        # torch 2.13 deprecates tracing; coremltools 9.0 still wants it.  Drop when torch.export serves every format.
        warnings.simplefilter("ignore", DeprecationWarning)
        trace: Callable[..., torch.nn.Module] = torch.jit.trace  # untyped in torch
        return trace(module, example, check_trace=False, strict=True)


def keep_module(module: torch.nn.Module, example: Example) -> torch.nn.Module:
    """Return a module as it is, for a format that captures it itself."""
    return module


def trace_model(model: SamModel, config: ExportConfig, *, format: str) -> list[TracedComponent]:
    """Return encoder, decoder and extra components of ``model``, rewritten and traced for ``format``.

    Raises:
        UsageError: the profile does not exist for this format, or a rewrite is unknown.
        ConversionError: a component's outputs are not those that its contract promises.
    """
    return list(trace_each(model, config, format=format))


def trace_each(
    model: SamModel, config: ExportConfig, *, format: str, capture: Capture = script_module
) -> Iterator[TracedComponent]:
    """Yield the same one by one, so that a component's weights can go before the next one's are traced."""
    components, names = build_components(model, config, format=format)
    waiting = list(reversed(components))
    del components
    while waiting:
        yield trace_component(waiting.pop(), model, config, names, format=format, capture=capture)


def build_components(
    model: SamModel, config: ExportConfig, *, format: str
) -> tuple[tuple[Component, ...], tuple[str, ...]]:
    """Return the modules that will be traced, and the names of the rewrites applied.

    Encoder and decoder come first; a model with more to export has ``extra_components(config)``, which returns it.
    """
    profile = find_profile(config.profile)
    if profile.formats is not None and format not in profile.formats:
        known = ", ".join(profile.formats)
        raise UsageError(f"profile '{profile.name}' is for {known}, not for {format}")
    if config.queries > 1 and not profile.queries:
        raise UsageError(
            f"profile '{profile.name}' has its consumer's number of prompts, one or any, not {config.queries} queries;"
            " leave queries out or use profile 'default'"
        )
    names = tuple(name for name in recommended_rewrites(format) if name not in profile.without)
    if config.rewrites is not None:
        names = tuple(config.rewrites)
        if barred := [name for name in names if name in profile.without]:
            raise UsageError(f"profile '{profile.name}' takes several prompts at once, rewrite {barred[0]} one")
    rewritten = apply_rewrites(model, names)
    components = (*profile.components(rewritten, config), *rewritten.extra_components(config))
    for component in components:
        replace_modules(component.module, lambda module: form_for(module, format))
    if config.object_score and not any(part.details.get("object_score") for part in components):
        raise UsageError(f"profile '{profile.name}' has no object_score; leave it out or use profile 'default'")
    return components, names


def form_for(module: torch.nn.Module, format: str) -> torch.nn.Module | None:
    """Return the form that a module takes in one format only (its method ``form_for``), None for most."""
    form: Callable[[str], torch.nn.Module | None] | None = getattr(module, "form_for", None)
    return None if form is None else form(format)


def trace_component(
    component: Component,
    model: SamModel,
    config: ExportConfig,
    rewrites: tuple[str, ...],
    *,
    format: str,
    capture: Capture = script_module,
) -> TracedComponent:
    """Capture one component and check its outputs against its ``TensorSpec``s; a trace runs the module once."""
    module = component.module.eval().requires_grad_(False)
    if model.provenance is None:
        raise ConversionError(f"{model.info.name} has no weights yet; load a checkpoint or random weights")
    with torch.no_grad():
        traced = capture(module, component.example)
        check_outputs(component, output_sizes(traced, component.example))
    contract = make_contract(
        info=model.info,
        provenance=model.provenance,
        config=config,
        component=component.name,
        inputs=component.inputs,
        outputs=component.outputs,
        details={**component.details, "rewrites": list(rewrites)},
    )
    return TracedComponent(
        name=component.name,
        module=traced,
        inputs=component.inputs,
        outputs=component.outputs,
        example=component.example,
        free_dims=component.free_dims,
        contract=contract,
        fp32_modules=fp32_modules(module, format),
        file_stem=component.file_stem,
    )


def within(path: str, modules: Iterable[str]) -> bool:
    """Return whether the module at ``path`` is one of ``modules`` or lies inside one."""
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def fp32_modules(module: torch.nn.Module, format: str) -> tuple[str, ...]:
    """Return the paths of sub-modules that ask for FP32 arithmetic in ``format`` (class attribute ``fp32_formats``)."""
    asking = {format, EVERY_FORMAT}
    return tuple(path for path, part in module.named_modules() if asking & set(getattr(part, "fp32_formats", ())))


def output_sizes(module: torch.nn.Module, example: Example) -> list[tuple[int, ...]]:
    """Return the sizes of a captured module's outputs: a trace recorded them, any other module runs once more."""
    if isinstance(module, torch.jit.ScriptModule):
        return [tuple(zeros.shape) for zeros in traced_outputs(module)]
    outputs = module(*example)
    return [tuple(output.shape) for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def traced_outputs(module: torch.jit.ScriptModule) -> list[torch.Tensor]:
    """Return zeros of the sizes and types that the outputs had when the module was traced."""
    graph = module.inlined_graph  # values of a graph live as long as it does
    (result,) = graph.outputs()
    values = list(result.node().inputs()) if result.node().kind() == "prim::TupleConstruct" else [result]
    types: list[Any] = [value.type() for value in values]
    return [torch.zeros(kind.sizes(), dtype=kind.dtype()) for kind in types]


def check_outputs(component: Component, found: list[tuple[int, ...]]) -> None:
    """Raise ConversionError unless the outputs have the promised number and sizes (free ones aside)."""
    promised = [spec.shape for spec in component.outputs]
    fits = len(found) == len(promised) and all(
        len(a) == len(b) and all(isinstance(q, str) or p == q for p, q in zip(a, b)) for a, b in zip(found, promised)
    )
    if not fits:
        raise ConversionError(f"{component.name} returns shapes {found}, its contract promises {promised}")
