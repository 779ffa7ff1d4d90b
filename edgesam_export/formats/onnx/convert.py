"""ONNX: FP32 or FP16 files, checked by onnx.checker and shape inference before they reach their final path."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from edgesam_export.errors import ConversionError, first_line
from edgesam_export.export.contract import CONTRACT_KEY, summary
from edgesam_export.export.quiet import quiet
from edgesam_export.export.trace import TracedComponent, trace_each, traced_outputs
from edgesam_export.files import data_beside, staging_folder
from edgesam_export.formats import component_path, files_folder, make_artifacts, without_module, write_companions
from edgesam_export.formats.onnx.external_data import load_weights, move_weights_out, weight_bytes
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Artifact, OnnxConfig, Progress, TensorSpec

__all__ = ["export_onnx"]

SUFFIX = ".onnx"
EXTERNAL_BYTES = 1_500_000_000
"""Above this the weights lie in ``<name>.onnx.data`` beside the graph; protobuf's own limit is 2 GiB."""


def export_onnx(
    model: SamModel,
    out_dir: str | Path,
    config: OnnxConfig | None = None,
    *,
    progress: Progress | None = None,
) -> list[Artifact]:
    """Export encoder, decoder and extra components as ONNX files into ``out_dir``; return them in that order.

    ``progress`` is called before each step, with its name.

    Raises:
        UsageError: options that do not fit together, or a folder that cannot be written.
        ConversionError: the exporter or the checker refuses the graph.
    """
    config = config or OnnxConfig()
    report = progress or (lambda *_: None)
    folder = files_folder(out_dir, config)
    with staging_folder(folder) as staging:
        report(0, 0, "tracing")
        components = []
        for component in trace_each(model, config, format="onnx"):
            report(0, 0, f"converting {component.name}")
            save_onnx(component, config, component_path(staging, component, SUFFIX))
            components.append(without_module(component))
            del component
    write_companions(out_dir, model.info, config)
    return make_artifacts(folder, components, format="onnx", suffix=SUFFIX, modules={})


def save_onnx(component: TracedComponent, config: OnnxConfig, path: Path) -> None:
    """Convert, check and save one component.

    Raises:
        ConversionError: the exporter or the checker refuses; the message has its first line.
    """
    import onnx

    # Beside the staging folder, whose content all moves to the final folder.
    with quiet(), tempfile.TemporaryDirectory(prefix=".edgesam-export-", dir=path.parent.parent) as folder:
        weights = Path(folder)
        try:
            graph = convert(component, config, weights)
            if config.precision == "fp16":
                graph = to_fp16(graph, component, weights)
            large = weight_bytes(graph, weights) > EXTERNAL_BYTES
            if large:
                move_weights_out(graph, weights, data_beside(path))
            graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
            describe(graph, component)
            if not large:
                onnx.checker.check_model(graph, full_check=True)
            onnx.save(graph, path)
            if large:
                onnx.checker.check_model(path, full_check=True)  # by its path, to find the weights
        except OSError:
            raise
        except Exception as error:
            raise ConversionError(f"could not convert {component.name} to ONNX: {first_line(error)}") from error


def convert(component: TracedComponent, config: OnnxConfig, folder: Path) -> Any:
    """Return the FP32 ONNX graph of a traced component; of more than 2 GB, the weights are left in ``folder``."""
    import onnx

    path = folder / "graph.onnx"
    free = {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in (*component.inputs, *component.outputs)
    }
    torch.onnx.export(
        answering_at_once(component.traced),
        component.example,
        str(path),
        input_names=[spec.name for spec in component.inputs],
        output_names=[spec.name for spec in component.outputs],
        dynamic_axes={name: axes for name, axes in free.items() if axes},
        opset_version=config.opset,
        # The exporter that torch prefers since 2.9 needs onnxscript and re-captures the model; we have a trace already.
        dynamo=False,
    )
    graph = onnx.load_model(path, load_external_data=False)
    path.unlink()
    for spec, value in zip(component.outputs, graph.graph.output):
        declare_shape(value, spec)
    return graph


def answering_at_once(module: torch.nn.Module) -> torch.nn.Module:
    """Return a traced module whose call returns zeros of the traced outputs' sizes; its graph stays what it is.

    torch.onnx.export calls a ScriptModule for the sizes and types of its outputs alone, and that takes as long as the
    trace did, which recorded them.
    """
    if not isinstance(module, torch.jit.ScriptModule):
        return module
    zeros = tuple(traced_outputs(module))
    answer = zeros if len(zeros) > 1 else zeros[0]
    kind = type("AnsweringAtOnce", (type(module),), {"__call__": lambda self, *inputs: answer})
    object.__setattr__(module, "__class__", kind)  # a ScriptModule stores what is set elsewhere
    return module


def declare_shape(value: Any, spec: TensorSpec) -> None:
    """Write the promised sizes into an output, where the exporter lost them."""
    for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape):
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size


def to_fp16(graph: Any, component: TracedComponent, folder: Path) -> Any:
    """Return the graph in FP16, but for the modules that ask for FP32 and the inputs and outputs declared FP32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = onnx.shape_inference.infer_shapes(graph)  # before the weights are here: it copies, through protobuf
    load_weights(graph, folder)
    fp32_tensors = [spec.name for spec in (*component.inputs, *component.outputs) if spec.dtype == "fp32"]
    half = convert_float_to_float16(
        graph,
        keep_io_types=fp32_tensors,
        disable_shape_infer=True,
        node_block_list=fp32_nodes(graph, component),
        op_block_list=[],
    )
    tidy_casts(half)
    # The converter appends its casts at the end of the graph.
    OnnxModel.graph_topological_sort(half.graph)
    return half


def fp32_nodes(graph: Any, component: TracedComponent) -> list[str]:
    """Return the names of a graph's nodes whose modules ask for FP32."""
    blocks = tuple("/" + module.replace(".", "/") + "/" for module in component.fp32_modules)
    return [node.name for node in graph.graph.node if node.name.startswith(blocks)]


def tidy_casts(graph: Any) -> None:
    """Repair what ``convert_float_to_float16`` leaves around the nodes that stay FP32.

    It adds one Cast per FP32 consumer of a value, all of one name, and rounds to FP16 between two FP32 nodes, which is
    just where FP16 overflows.  Seen in onnxruntime 1.31; drop when its graphs pass onnx.checker and keep FP32 chains.
    """
    import onnx

    nodes, made = [], {}
    for node in graph.graph.node:
        if node.op_type != "Cast" or node.output[0] not in made:
            nodes.append(node)
            made.update(dict.fromkeys(node.output, node))
    bypass = {}
    for node in nodes:
        source = made.get(node.input[0]) if node.op_type == "Cast" else None
        if source is not None and source.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT:
            bypass[node.output[0]] = source.input[0]
            node.input[0] = source.input[0]  # stays only where it makes an output of the graph
    for node in nodes:
        for index, name in enumerate(node.input):
            node.input[index] = bypass.get(name, name)
    outputs = {value.name for value in graph.graph.output}
    for _ in range(2):  # first the bypassed casts, then those that fed only them
        used = {name for node in nodes for name in node.input} | outputs
        nodes = [node for node in nodes if node.op_type != "Cast" or node.output[0] in used]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def describe(graph: Any, component: TracedComponent) -> None:
    """Write descriptions and contract into the file's metadata."""
    contract = component.contract
    graph.doc_string = summary(contract)
    graph.producer_name = "edgesam-export"
    graph.producer_version = contract["versions"]["edgesam-export"]
    entry = graph.metadata_props.add()
    entry.key, entry.value = CONTRACT_KEY, json.dumps(contract, sort_keys=True, allow_nan=False)
    licence = graph.metadata_props.add()
    licence.key, licence.value = "licence", contract["weights"]["licence"]
    descriptions = {spec.name: spec.description for spec in (*component.inputs, *component.outputs)}
    for value in (*graph.graph.input, *graph.graph.output):
        value.doc_string = descriptions.get(value.name, "")
