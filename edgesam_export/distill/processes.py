"""This process among those of a run, and the device that it trains on."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from datetime import timedelta

import torch

from edgesam_export.distill.config import DistillConfig
from edgesam_export.errors import UsageError

__all__ = ["Processes", "amp_advice"]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of the run."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    @staticmethod
    def find(device: str | None = None, *, patience: timedelta | None = None) -> Processes:
        """Join the others that ``torchrun`` started, if it did; ``patience`` is how long each waits for the others.

        Raises:
            UsageError: CUDA is asked for and there is none, or fewer devices than processes.
        """
        distributed = torch.distributed
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device is '{device}', but PyTorch finds no CUDA device here; leave --device out")
        several = distributed.is_available() and distributed.is_torchelastic_launched()
        if several and device == "cuda":
            local_rank, devices = distributed.get_node_local_rank(0), torch.cuda.device_count()
            if local_rank >= devices:
                raise UsageError(
                    f"process {local_rank} finds {devices} CUDA devices, one is needed for each; give torchrun"
                    f" --nproc-per-node {devices}, or choose --device cpu"
                )
            device = f"cuda:{local_rank}"
        if several and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=patience)
            # Gloo's threads, left running, now and then abort a process that is done.
            atexit.register(distributed.destroy_process_group)
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
        return Processes(rank=rank, world=world, device=torch.device(device))


def amp_advice(config: DistillConfig, where: Processes) -> str | None:
    """Return a warning where mixed precision costs time: without AVX-512, PyTorch emulates BF16 in FP32."""
    if config.amp == "bf16" and where.device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return "amp bf16: this processor (AVX2) emulates BF16, several times slower than FP32; --amp off is faster here"
    return None
