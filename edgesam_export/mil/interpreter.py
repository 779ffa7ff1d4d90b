"""Running a parsed function: prepare once, then one small loop.

``PreparedFunction`` replaces names by slots, turns constants into tensors, decompresses weights, looks up every op and
works out its arguments. ``run_block`` is the loop; it knows no op by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from edgesam_export.errors import UnsupportedOpError
from edgesam_export.hardware import cores
from edgesam_export.mil.binding import Fixed, Operand, bind_arguments, signature_of
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.fusions import fuse
from edgesam_export.mil.graph import Argument, Block, Constant, Function, Operation, carrier_array
from edgesam_export.mil.layouts import choose_layouts
from edgesam_export.mil.memory import channels_last, keep_freed_memory
from edgesam_export.mil.numerics import Numerics
from edgesam_export.mil.ops import OPS, SPECIALISATIONS
from edgesam_export.mil.plan import PreparedBlock, Step, mark_last_uses, mark_owned
from edgesam_export.mil.results import as_tuple, conform, is_fresh, while_executing
from edgesam_export.mil.types import CARRIER_NAMES, ValueType

__all__ = ["PreparedFunction", "Probe", "check_supported"]

Probe = Callable[[Operation, str, torch.Tensor], None]
"""Called as ``probe(op, value_name, value)`` for every value an op produced; it must not change the value."""
SMALL = 1 << 19
"""Elements of a value, on average, below which two threads beside other work take longer than one."""
FOLDED_CHAPTER = "constexpr_ops"
"""Ops of this chapter are decompression: computed once, their outputs are constants."""


def run_block(
    block: PreparedBlock, env: list[Any], numerics: Numerics, probe: Probe | None, *args: Any
) -> tuple[Any, ...]:
    """Run a block on ``args`` and return its outputs; ``env`` is the function's, one list for all its blocks."""
    for slot, value in zip(block.inputs, args, strict=True):
        env[slot] = value
    for step in block.plan(probed=probe is not None):
        with while_executing(step.operation):
            positional, keyword = step.call.arguments(env)
            if step.blocks:
                keyword["blocks"] = tuple(partial(run_block, b, env, numerics, probe) for b in step.blocks)
            results = step.fn(*positional, **keyword)
            bind_results(step, results, positional, env, numerics, probe)
        for slot in step.frees:
            env[slot] = None
    outputs = tuple(env[slot] for slot in block.outputs)
    for slot in block.frees:
        env[slot] = None
    return outputs


def bind_results(
    step: Step, results: Any, arguments: list[Any], env: list[Any], numerics: Numerics, probe: Probe | None
) -> None:
    """Check, round and store what an op returned."""
    for (slot, name, declared), rounds, value in zip(step.outputs, step.rounds, as_tuple(results, len(step.outputs))):
        value = conform(value, declared, name)
        if rounds:
            fresh = step.makes_new_memory or is_fresh(value, arguments)
            value = numerics.round(step.version.name, value, declared, fresh=fresh)
        env[slot] = value
        if probe is not None:
            probe(step.operation, name, value)


def check_supported(function: Function) -> None:
    """Check that there is an op for everything in the function, before any of it runs.

    Raises:
        UnsupportedOpError: the first missing op, its location and the way out; the names of the others.
    """
    missing: dict[str, str] = {}
    for operation in function.block.walk():
        if operation.is_constant:
            continue
        try:
            OPS.find(operation.type, function.opset)
        except UnsupportedOpError as error:
            first, _, advice = str(error).partition(". ")
            missing.setdefault(operation.type, f"{first}, at {operation.location} '{operation.label}'. {advice}")
    if missing:
        first, *others = missing
        more = f". Also missing: {', '.join(sorted(others))}" if others else ""
        raise UnsupportedOpError(missing[first] + more)


class PreparedFunction:
    """A function made ready for one numerics policy and one device; safe to run from several threads."""

    def __init__(self, function: Function, numerics: Numerics, device: torch.device) -> None:
        check_supported(function)
        self.function, self.numerics, self.device = function, numerics, device
        self.slots = 0
        self.fixed: dict[int, Fixed] = {}
        self.kept: dict[int, Any] = {}
        self.channels_last: set[int] = set()
        """Slots that are wanted in this layout; of these, inputs get it before anything runs."""
        scope: dict[str, int] = {}
        self.inputs = [self.new_slot(value.name, scope) for value in function.inputs]
        with torch.inference_mode():
            self.block, _ = self.prepare_block(function.block, scope, set(self.inputs))
        self.fixed.clear()
        if device.type == "cpu":
            keep_freed_memory(self)

    def run(self, feed: Mapping[str, Any], probe: Probe | None = None) -> tuple[Any, ...]:
        """Return the values of the block's outputs for input values by name (tensors, or a ``StateBox``).

        A tensor has its carrier type, or FP16, or is bytes of pixels.

        Raises:
            ProgramError: an op failed, or gave something else than the program declares.
        """
        env: list[Any] = [None] * self.slots
        for slot, value in self.kept.items():
            env[slot] = value
        with torch.inference_mode(), self.threads():
            for slot, declared in zip(self.inputs, self.function.inputs):
                value = feed[declared.name]
                env[slot] = self.entered(slot, value, declared.type) if isinstance(value, torch.Tensor) else value
            return run_block(self.block, env, self.numerics, probe)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Use one thread for small values where other processes want the cores: waiting would take longer than work."""
        chosen = torch.get_num_threads()
        if self.block.mean_elements < SMALL and cores.are_shared():
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch.get_num_threads() != chosen:
                torch.set_num_threads(chosen)

    def entered(self, slot: int, value: torch.Tensor, declared: ValueType) -> torch.Tensor:
        """Return an input in its carrier type and the layout that the plan wants, rounded."""
        value = channels_last(value) if slot in self.channels_last else value
        narrow = value.dtype in (torch.float16, torch.uint8)
        value = value.to(CARRIERS[declared.dtype])
        if narrow and declared.dtype == "fp16" and not self.numerics.hardware:
            return value  # rounding would change nothing
        return self.numerics.round("input", value, declared, fresh=narrow)

    def new_slot(self, name: str, scope: dict[str, int]) -> int:
        scope[name] = self.slots
        self.slots += 1
        return scope[name]

    def prepare_block(self, block: Block, scope: dict[str, int], own: set[int]) -> tuple[PreparedBlock, set[int]]:
        """Return the block and every slot that it reads; ``own`` are slots that die with it."""
        inputs = [self.new_slot(value.name, scope) for value in block.inputs]
        steps, reads = [], []
        for operation in block.operations:
            if operation.is_constant:
                slot = self.new_slot(operation.outputs[0].name, scope)
                self.fixed[slot] = self.fixed_value(operation.attributes["val"])
                continue
            step, read = self.prepare_step(operation, scope)
            if step.version.chapter == FOLDED_CHAPTER and not read:
                self.fold(step)
                continue
            steps.append(step)
            reads.append(read)
        outputs = [scope[name] for name in block.outputs]
        for slot in set(outputs) & self.fixed.keys():
            self.kept[slot] = self.fixed[slot].tensor("", "")
        own = {*own, *inputs, *(slot for step in steps for slot, _, _ in step.outputs)}
        self.channels_last |= choose_layouts(steps)
        fused, fused_reads = fuse(steps, reads, set(outputs), self.numerics)
        mark_last_uses(steps, reads, own - set(outputs))
        mark_last_uses(fused, fused_reads, own - set(outputs))
        mark_owned(fused, fused_reads)
        return PreparedBlock(inputs, steps, outputs, sorted(own & set(outputs)), fused), set().union(outputs, *reads)

    def prepare_step(self, operation: Operation, scope: dict[str, int]) -> tuple[Step, set[int]]:
        """Return the step of an operation and the slots it reads."""
        version = OPS.find(operation.type, self.function.opset)
        signature = signature_of(version.fn)
        operands = {key: [self.operand(a, scope) for a in arguments] for key, arguments in operation.inputs.items()}
        for key, constant in operation.attributes.items():
            if key in signature.names:  # other attributes are hints to Apple's compiler
                operands.setdefault(key, [self.fixed_value(constant)])
        with while_executing(operation):
            call = bind_arguments(operation, version.fn, operands)
        read = {operand for values in operands.values() for operand in values if isinstance(operand, int)}
        blocks = []
        for block in operation.blocks:
            prepared, inner = self.prepare_block(block, dict(scope), set())
            blocks.append(prepared)
            read |= inner
        outputs = [(self.new_slot(output.name, scope), output.name, output.type) for output in operation.outputs]
        rounds = [not version.exact and self.numerics.concerns(output.type) for output in operation.outputs]
        specialise = SPECIALISATIONS.get(version.name)
        fast = specialise(call.positional, call.keyword) if specialise is not None and call.is_simple else None
        return Step(operation, version, fast or version.fn, call, outputs, rounds, blocks), read

    def operand(self, argument: Argument, scope: dict[str, int]) -> Operand:
        if isinstance(argument, Constant):
            return self.fixed_value(argument)
        slot = scope[argument]
        return self.fixed.get(slot, slot)

    def fixed_value(self, constant: Constant) -> Fixed:
        return Fixed(make=partial(self.materialise, constant), load=constant.load)

    def materialise(self, constant: Constant) -> Any:
        """Return a constant as ops see it: a tensor on the device; a string or list as it is."""
        if not constant.type.is_tensor:
            return constant.load()
        value = torch.from_numpy(carrier_array(constant, CARRIER_NAMES[constant.type.dtype])).to(self.device)
        return self.numerics.round("const", value, constant.type, fresh=True) if self.numerics.hardware else value

    def fold(self, step: Step) -> None:
        """Compute a decompression now: its outputs become constants."""
        env: list[Any] = [None] * self.slots
        run_block(PreparedBlock([], [step], [], [], [step]), env, self.numerics, None)
        for slot, _, _ in step.outputs:
            value = returning(env[slot])
            self.fixed[slot] = Fixed(make=value, load=value)


def returning(value: Any) -> Callable[[], Any]:
    """Return a function that returns ``value``."""
    return lambda: value
