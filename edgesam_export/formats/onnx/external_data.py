"""Weights of large ONNX files: they lie in one file beside the graph, and are read from there only.

Protobuf, which holds the graph, ends at 2 GB.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesam_export.errors import UsageError, first_line
from edgesam_export.files import data_beside, stand_in

__all__ = ["load_weights", "move_weights_out", "read_graph", "weight_bytes"]

LEAST_BYTES = 1024
"""Smaller tensors stay in the graph: shape inference reads some of them."""
ALIGNMENT = 4096
"""A page, so that weights can be mapped; what ONNX's external data recommends."""


def read_graph(path: Path) -> Any:
    """Return the ``ModelProto`` in a file, without weights that lie beside it, its references to them checked.

    Raises:
        UsageError: the file cannot be read, is no ONNX, or wants data from anywhere but ``<file name>.data`` beside it.
    """
    import onnx

    try:
        graph = onnx.load_model(path, load_external_data=False)
    except Exception as error:
        found = stand_in(path)
        raise UsageError(
            f"'{path}' {found}" if found else f"cannot load '{path}' as ONNX: {first_line(error)}"
        ) from None
    data = data_beside(path)
    outside = [tensor for tensor in tensors(graph) if is_outside(tensor)]
    for tensor in outside:
        locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if locations != [data.name]:
            named = ", ".join(repr(location[:100]) for location in locations) or "nowhere"
            raise UsageError(f"'{path}' wants weights from {named}; only '{data.name}' beside it is read")
    if outside and (data.is_symlink() or not data.is_file()):
        # ONNX Runtime looks for the data where a link leads, and finds none; so it is no use to follow one.
        linked = (
            " (a link, as in the cache of the Hugging Face Hub: download with --local-dir)" if data.is_symlink() else ""
        )
        raise UsageError(f"'{path}' has its weights in '{data.name}', which is no file beside it; copy both{linked}")
    if outside and (found := stand_in(data)):
        raise UsageError(f"'{data}' {found}")
    return graph


def tensors(message: Any) -> Iterator[Any]:
    """Yield every ``TensorProto`` anywhere inside a message: weights, attributes, nested graphs, functions."""
    if message.DESCRIPTOR.full_name.endswith(".TensorProto"):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from tensors(part)


def is_outside(tensor: Any) -> bool:
    """Return whether a tensor's values lie in another file; one that only says where counts too."""
    return bool(tensor.external_data) or tensor.data_location == tensor.EXTERNAL


def load_weights(message: Any, folder: Path) -> None:
    """Read the values of tensors that lie in files of ``folder`` into the message."""
    import onnx

    for tensor in tensors(message):
        if is_outside(tensor):
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def weight_bytes(graph: Any, folder: Path) -> int:
    """Return the bytes of all tensors of a graph whose external ones lie in ``folder``."""
    return sum(len(tensor.raw_data) or outside_bytes(tensor, folder) for tensor in tensors(graph))


def outside_bytes(tensor: Any, folder: Path) -> int:
    """Return the size of the values of a tensor as torch's exporter writes them: a file for each."""
    return source_of(tensor, folder).stat().st_size if is_outside(tensor) else 0


def source_of(tensor: Any, folder: Path) -> Path:
    """Return the file that the exporter wrote a tensor's values to."""
    location: str = next(entry.value for entry in tensor.external_data if entry.key == "location")
    return folder / location


def move_weights_out(graph: Any, folder: Path, data: Path) -> None:
    """Write the larger tensors, inside the graph or in files of ``folder``, into ``data``, and refer to it."""
    with data.open("wb") as stream:
        for tensor in tensors(graph):
            if not is_outside(tensor) and len(tensor.raw_data) < LEAST_BYTES:
                continue
            stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
            start = stream.tell()
            if is_outside(tensor):
                source = source_of(tensor, folder)
                with source.open("rb") as values:
                    shutil.copyfileobj(values, stream, 1 << 20)
                source.unlink()
            else:
                stream.write(tensor.raw_data)
                tensor.ClearField("raw_data")
            reference = {"location": data.name, "offset": start, "length": stream.tell() - start}
            tensor.data_location = tensor.EXTERNAL
            del tensor.external_data[:]
            for key, value in reference.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
