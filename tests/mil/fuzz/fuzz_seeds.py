"""Small packages of every kind that the fuzzer starts from, converted once while this file and the libraries stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conversions import quiet_conversion
from export_cache import ROOT, cached_folder, digest_of_files, kept_folder, versions_of_libraries

__all__ = ["SEEDS", "seed_folder", "seed_packages"]

SEEDS: dict[str, Callable[[Path], None]] = {}
"""Name -> function that writes a package."""
NAME = "model.mlpackage"


def seed(build: Callable[[Path], None]) -> Callable[[Path], None]:
    SEEDS[build.__name__] = build
    return build


def convert(program: Any, path: Path, **options: Any) -> Any:
    """Convert, write the package and return the model."""
    import coremltools as ct

    options.setdefault("minimum_deployment_target", ct.target.iOS18)
    model = ct.convert(program, convert_to="mlprogram", skip_model_load=True, **options)
    model.save(str(path))
    return model


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@seed
def convolution(path: Path) -> Any:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1, 3, 8, 8))], opset_version=ct.target.iOS16)
    def program(x):
        y = mb.relu(x=mb.conv(x=x, weight=weights(4, 3, 3, 3), pad_type="same"))
        y = mb.concat(values=[y, mb.max_pool(x=y, kernel_sizes=[3, 3], strides=[1, 1], pad_type="same")], axis=1)
        flat = mb.reshape(x=mb.transpose(x=y, perm=[0, 2, 3, 1]), shape=[1, 64, 8])
        return mb.softmax(x=mb.linear(x=flat, weight=weights(5, 8)), axis=-1, name="out")

    return convert(program, path, minimum_deployment_target=ct.target.iOS16)


@seed
def palettized(path: Path) -> None:
    import coremltools.optimize.coreml as cto

    options = cto.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0)
    cto.palettize_weights(convolution(path), cto.OptimizationConfig(global_config=options)).save(str(path))


@seed
def control_flow(path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    specs = [mb.TensorSpec((1,), dtype=types.fp16), mb.StateTensorSpec((1,), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=ct.target.iOS18)
    def program(x, memory):
        before = mb.read_state(input=memory)
        count = mb.while_loop(
            _cond=lambda a: mb.squeeze(x=mb.less(x=a, y=np.float16(5))),
            _body=lambda a: mb.add(x=a, y=np.float16(1)),
            loop_vars=(x,),
        )
        small = mb.squeeze(x=mb.less(x=count, y=np.float16(6)))
        chosen = mb.cond(pred=small, _true_fn=lambda: mb.add(x=count, y=before), _false_fn=lambda: mb.sin(x=count))
        return mb.add(x=mb.coreml_update_state(state=memory, value=chosen), y=before, name="out")

    convert(program, path)


@seed
def attention(path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    @mb.program(input_specs=[mb.TensorSpec((1, 2, 6, 4)), mb.TensorSpec((1, 6, 8))], opset_version=ct.target.iOS18)
    def program(q, x):
        split = mb.transpose(x=mb.reshape(x=mb.layer_norm(x=x, axes=[-1]), shape=[1, 6, 2, 4]), perm=[0, 2, 1, 3])
        y = mb.scaled_dot_product_attention(query=q, key=split, value=split)
        y = mb.matmul(x=y, y=mb.gelu(x=split), transpose_y=True)
        return mb.reduce_mean(x=y, axes=[1], keep_dims=False, name="out")

    convert(program, path, compute_precision=ct.precision.FLOAT32)


@seed
def classifier(path: Path) -> None:
    import coremltools as ct
    import torch

    layers = (torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Softmax(1))
    traced = torch.jit.trace(torch.nn.Sequential(*layers).eval(), torch.rand(1, 1, 8, 8))
    shapes = ct.EnumeratedShapes([(1, 1, 8, 8), (1, 1, 16, 16)], default=(1, 1, 8, 8))
    image = ct.ImageType(name="image", shape=shapes, color_layout=ct.colorlayout.GRAYSCALE, scale=1 / 255)
    labels = ct.ClassifierConfig(["left", "right", "above", "below"])
    convert(traced, path, inputs=[image], classifier_config=labels, minimum_deployment_target=ct.target.iOS16)


@seed
def recurrent(path: Path) -> None:
    import coremltools as ct
    import torch

    network = torch.nn.LSTM(4, 5, bidirectional=True).eval()
    traced = torch.jit.trace(network, torch.rand(3, 1, 4))
    flexible = ct.TensorType(name="x", shape=(ct.RangeDim(1, 9, default=3), 1, 4))
    convert(traced, path, inputs=[flexible], minimum_deployment_target=ct.target.iOS17)


@seed
def two_functions(path: Path) -> None:
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb

    functions = ct.utils.MultiFunctionDescriptor()
    for name, scale in (("twice", 2), ("thrice", 3)):
        one = path.with_name(f"{name}.mlpackage")

        @mb.program(input_specs=[mb.TensorSpec((2, 3))], opset_version=ct.target.iOS18)
        def program(x):
            return mb.mul(x=x, y=np.full((2, 3), scale, np.float32), name="out")  # noqa: B023  # called at once

        convert(program, one)
        functions.add_function(str(one), "main", name)
    functions.default_function_name = "twice"
    ct.utils.save_multifunction(functions, str(path))
    for name in ("twice", "thrice"):
        shutil.rmtree(path.with_name(f"{name}.mlpackage"))


@cache
def seed_folder() -> Path:
    sources = digest_of_files([Path(__file__)], Path(__file__).parent)
    return kept_folder(ROOT / "out" / "test-fuzz", f"{sources} {versions_of_libraries()}")


@cache
def seed_packages() -> dict[str, Path]:
    """Return the package of every seed; beside it stands the record of an export, as ours have one."""
    return {name: cached_folder(seed_folder(), name, lambda to, name=name: make(name, to)) / NAME for name in SEEDS}


def make(name: str, folder: Path) -> None:
    import torch

    from edgesam_export.files import sha256_of
    from edgesam_export.mil import load_program

    with quiet_conversion(), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        SEEDS[name](folder / NAME)
    modules = {op.label: f"module.{index}" for index, op in enumerate(load_program(folder / NAME).operations)}
    record = {"artifacts": {NAME: {"sha256": sha256_of(folder / NAME), "modules": modules}}}
    (folder / "export.json").write_text(json.dumps(record))
