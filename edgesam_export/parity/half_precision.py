"""What half precision costs any correct implementation: the PyTorch model, every result rounded to FP16's precision.

Independent of exported files, of the rewrites in them and of the executor. Only the precision of FP16 is taken, not its
range: an overflow, or a small number that becomes zero, is a fault of a file and no part of this noise. Exact are the
tokens of points, which an export computes in FP32, and what a norm computes on its way to its result.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.mil.memory import flat, is_dense
from edgesam_export.mil.results import is_fresh
from edgesam_export.modeling.common import LayerNorm2d, OneGroupNorm
from edgesam_export.modeling.sam import SamModel
from edgesam_export.runners import Decoded, Embedding
from edgesam_export.runners.torch import TorchRunner

__all__ = ["HalfPrecisionRunner"]

BITS = 11
FP32_BITS = 24
"""Of the fraction of an FP16 and a float32 number, the leading one included."""
NORMS = (LayerNorm2d, OneGroupNorm)
PIECE = 1 << 17
"""Elements that are rounded at once: with three intermediate results about as much as a core's own cache holds."""


class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # in torch
    """Rounds parameters and every floating-point result while ``active`` to the nearest of numbers ``bits`` long.

    These are the FP16 numbers, or with another ``grid`` than 1 as many between them: all divided by it.
    """

    def __init__(self, grid: float, bits: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # in torch
        self.grid = grid
        self.factor = 2.0 ** (FP32_BITS - bits)
        self.active = False
        self.keeping = False
        """Keep rounded parameters: of networks that run often and are small."""
        self.kept: dict[nn.Parameter, Tensor] = {}
        self.buffers = torch.empty(2, PIECE)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.active:
            return function(*args, **(kwargs or {}))
        args = [self.parameter(value) if isinstance(value, nn.Parameter) else value for value in args]
        result = function(*args, **(kwargs or {}))
        if function.is_view:
            return result
        if isinstance(result, tuple):  # a norm's or an attention's result, then what a backward pass would need
            return (self.rounded(result[0], args), *result[1:])
        return self.rounded(result, args)

    def parameter(self, value: nn.Parameter) -> Tensor:
        """Return a parameter rounded."""
        rounded: Tensor = self.kept[value] if value in self.kept else self.rounded(value)
        if self.keeping:
            self.kept[value] = rounded
        return rounded

    def rounded(self, value: Any, arguments: Sequence[Any] | None = None) -> Any:
        """Return a floating-point tensor rounded; anything else as it is.

        What an operation made of its ``arguments`` is rounded in its own memory, unless that is an argument's.
        """
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or not value.numel():
            return value
        result = value if is_dense(value) else value.contiguous()
        if result is value and (arguments is None or not is_fresh(value, list(arguments))):
            result = value.clone()
        for piece in torch.split(flat(result), PIECE):
            self.round_piece(piece)
        return result

    def round_piece(self, piece: Tensor) -> None:
        """Round at most ``PIECE`` numbers in their own memory."""
        scaled, lower = (buffer[: piece.numel()] for buffer in self.buffers)
        source = piece if self.grid == 1 else torch.mul(piece, self.grid, out=scaled)
        # f x is exact, and (1 - f) x loses all bits but x's upper ones: their sum is x rounded, ties to even, the very
        # numbers of Dekker 1971, "A floating-point technique for extending the available precision", in a pass less.
        torch.mul(source, 1.0 - self.factor, out=lower)
        torch.add(lower, source, alpha=self.factor, out=piece)
        if self.grid != 1:
            piece /= self.grid


class HalfPrecisionRunner(TorchRunner):
    """One sample of the noise of half precision; another ``grid`` (see ``Rounding``) gives another one.

    Fewer ``bits`` show what coarser arithmetic would cost.  It works on modules of its own with the model's tensors, so
    that several samples may run at once.
    """

    # A dispatch mode sees no inference tensors: views of rounded parameters would be refused.
    without_gradients = torch.no_grad

    def __init__(self, model: SamModel, *, grid: float = 1.0, score: str | None = None, bits: int = BITS) -> None:
        tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        super().__init__(copy.deepcopy(model, tensors), score=score)
        self.name = "torch, half precision"
        self.mode = Rounding(grid, bits)

    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding with its noise."""
        with self.noisy():
            return super().encode(prepared)

    def encode_pixels(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of an 8-bit padded image (S, S, 3) with its noise."""
        with self.noisy():
            return super().encode_pixels(pixels)

    def decode_all(self, *inputs: Any) -> Decoded:
        """Return logits, scores and object score with the decoder's noise; inputs as the base class's."""
        self.mode.keeping = True
        try:
            with self.noisy():
                return super().decode_all(*inputs)
        finally:
            self.mode.keeping = False

    @contextmanager
    def noisy(self) -> Iterator[None]:
        """Round inside the networks while the block runs, but not inside norms."""
        prompt = getattr(self.model.prompt_encoder, "mask_downscaling", None)
        networks = [part for part in (self.model.image_encoder, self.model.mask_decoder, prompt) if part is not None]
        norms = [module for part in networks for module in part.modules() if isinstance(module, NORMS)]
        handles = [handle for module in networks for handle in self.switch(module, on=True)]
        handles += [handle for module in norms for handle in self.switch(module, on=False)]
        try:
            with self.mode:
                yield
        finally:
            self.mode.active = False
            for handle in handles:
                handle.remove()

    def switch(self, module: nn.Module, *, on: bool) -> Iterator[Any]:
        """Yield the handles of hooks that set rounding while a module runs, and the contrary after it."""

        def before(*_: Any) -> None:
            self.mode.active = on

        def after(_: nn.Module, __: Any, result: Any) -> Any:
            self.mode.active = False
            rounded = result if on else self.mode.rounded(result)
            self.mode.active = not on
            return rounded

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)
