"""ONNX files in FP16 in exact arithmetic: widened to FP32, and the graphs that they have to equal, exported anew.

The exporter folds constants before it rounds them, so no weights of the model are the ones stored: the numbers in a
file can only be compared with those of another export. It is made in FP32 from the checkpoint, and its weights are
rounded here, without the converter to FP16 that made the file; so a fault of that converter is seen as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.artifacts import config_of
from edgesam_export.errors import SchemaError
from edgesam_export.export.quiet import quiet
from edgesam_export.export.trace import trace_component
from edgesam_export.files import data_beside
from edgesam_export.formats.onnx.convert import convert, fp32_nodes
from edgesam_export.formats.onnx.external_data import load_weights, move_weights_out, read_graph, tensors
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.modeling.sam import SamModel
from edgesam_export.runners import RUNNERS, ArtifactRunner, Embedding, in_fp32
from edgesam_export.runners.onnxruntime import open_session
from edgesam_export.runners.torch import TorchRunner, exported_components
from edgesam_export.spec import Artifact, OnnxConfig

__all__ = ["ExportedGraphsRunner", "StoredGraphsRunner", "WidenedRunner"]


class GraphsRunner(ArtifactRunner):
    """Runs FP32 graphs that are made for the artifacts of FP16 files, each before its first use."""

    def __init__(self, artifacts: Sequence[Artifact]) -> None:
        super().__init__(artifacts)
        self.folder = tempfile.TemporaryDirectory(prefix="edgesam-export-")
        self.sessions: dict[str, Any] = {}

    def graph(self, artifact: Artifact, folder: Path) -> Any:
        """Return the graph of one component in FP32; weights outside it lie in ``folder``."""
        raise NotImplementedError

    def written(self, component: str) -> Path:
        """Return the path of a component's graph, which is made unless it is there."""
        import onnx

        path = Path(self.folder.name) / component / "graph.onnx"
        if not path.is_file():
            path.parent.mkdir()
            graph = self.graph(next(file for file in self.artifacts if file.component == component), path.parent)
            move_weights_out(graph, path.parent, data_beside(path))
            onnx.save(graph, path)
        return path

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name. What the files take as FP16 comes rounded to it."""
        if component not in self.sessions:
            self.sessions[component] = open_session(self.written(component))
        session = self.sessions[component]
        wide = {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in feed.items()}
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, wide)))


@RUNNERS.register("onnx_exact")
class WidenedRunner(GraphsRunner):
    """Runs FP16 files in exact arithmetic: every FP16 tensor of their graphs becomes FP32, its values stay."""

    formats = ("onnx",)
    prefix = "widened"
    name = "onnxruntime fp32"

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> WidenedRunner:
        """Return a runner; there is one arithmetic."""
        return cls(artifacts)

    def graph(self, artifact: Artifact, folder: Path) -> Any:
        """Return a file's graph, widened."""
        graph = read_graph(artifact.path)
        load_weights(graph, artifact.path.parent)
        widen(graph)
        return graph


class ExportedGraphsRunner(GraphsRunner):
    """A new export of the model in FP32, otherwise with its files' options: shows what the conversion changes."""

    name = "network as exported, onnx"

    def __init__(self, model: SamModel, artifacts: Sequence[Artifact]) -> None:
        super().__init__(artifacts)
        self.model: SamModel = model
        self.contracts = {component: in_fp32(contract) for component, contract in self.contracts.items()}
        self.kept: dict[str, frozenset[str]] = {}
        """Component -> the nodes that an FP16 file computes in FP32, of those exported."""

    @cached_property
    def components(self) -> dict[str, Any]:
        """The modules to be exported, and their rewrites, by component."""
        return dict(exported_components(self.model, self.artifacts))

    def graph(self, artifact: Artifact, folder: Path) -> Any:
        """Return the graph of a component as the model has it."""
        config = config_of(artifact)
        if not isinstance(config, OnnxConfig):
            raise SchemaError(f"{artifact.path}: contract of a {artifact.format} file, expected one of an ONNX file")
        component, rewrites = self.components[artifact.component]
        traced = trace_component(component, self.model, config, rewrites, format=artifact.format)
        with quiet():
            graph = convert(traced, config, folder)
        self.kept[artifact.component] = frozenset(fp32_nodes(graph, traced))
        return graph


class StoredGraphsRunner(GraphsRunner):
    """The same export, its weights rounded as FP16 files store them: what widened files must reproduce."""

    name = "onnx, weights as stored"

    def __init__(self, exported: ExportedGraphsRunner) -> None:
        super().__init__(exported.artifacts)
        self.exported = exported
        self.model = exported.model

    def graph(self, artifact: Artifact, folder: Path) -> Any:
        """Return the graph of a component with its weights rounded."""
        path = self.exported.written(artifact.component)
        graph = read_graph(path)
        load_weights(graph, path.parent)
        round_weights(graph, self.exported.kept[artifact.component])
        return graph

    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding; the model's own when there is only a decoder to check."""
        if "encoder" in self.contracts:
            return super().encode(prepared)
        return TorchRunner(self.exported.model).encode(prepared)


def widen(graph: Any) -> None:
    """Make every FP16 tensor of a graph one of FP32: weights, constants, inputs, outputs, and the results of casts."""
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for tensor in tensors(graph):
        if tensor.data_type == half:
            replace_values(tensor, onnx.numpy_helper.to_array(tensor).astype(np.float32))
    for value in (*graph.graph.input, *graph.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    del graph.graph.value_info[:]
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single


def round_weights(graph: Any, kept: Collection[str]) -> None:
    """Round the FP32 weights and constants of a graph to FP16 and back, but for those that only ``kept`` nodes use.

    Resize takes its scales in FP32, whatever it resizes.
    """
    import onnx

    nodes = [node for node in graph.graph.node if node.name not in kept]
    used = {name for node in nodes if node.op_type != "Resize" for name in node.input}
    rounded = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    rounded += [tensor for node in nodes for attribute in node.attribute for tensor in tensors(attribute)]
    for tensor in rounded:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            largest, smallest = float(np.finfo(np.float16).max), float(np.finfo(np.float16).smallest_subnormal)
            # FP16 files hold no infinity and no zero for a number that FP16 has not.
            sized = np.sign(values) * np.clip(np.abs(values), smallest, largest)
            replace_values(tensor, sized.astype(np.float16).astype(np.float32))


def replace_values(tensor: Any, values: np.ndarray) -> None:
    """Put other values into a tensor, which keeps its name."""
    import onnx

    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
