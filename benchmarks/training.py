"""How many images a second a training run sees on this machine: each phase of a configuration, eager and compiled.

Scenes come from the pool as in a run, so that its workers take their share of the processor. The first steps, in which
graphs are compiled, are timed apart. ``--last`` runs the last phase alone, as the configuration says, with few scenes:
started beside a training run it fills the compiler's cache, from which the run takes its kernels when it gets there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from measuring import machine

from edgesam_export.distill.config import DistillConfig, Phase, read_config
from edgesam_export.distill.pool import ScenePool
from edgesam_export.distill.processes import Processes
from edgesam_export.distill.start import start_run
from edgesam_export.distill.trainer import Trainer
from edgesam_export.distill.training import make_step, prepare

WARM_UP = 3


def main() -> None:
    """Print a line for each phase and way of running it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a configuration, as models/edge_sam_tiny.json")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each phase")
    parser.add_argument("--last", action="store_true", help="the last phase only, as the configuration runs it")
    parser.add_argument("--profile", type=int, metavar="SIZE", help="also print the kernels at this size by time")
    options = parser.parse_args()
    config = replace(read_config(options.config), average=0.0)
    if options.last:
        config = replace(config, workers=min(2, config.workers), pool=min(512, config.pool))
    where = Processes.find()
    cuda = where.device.type == "cuda"
    print(torch.cuda.get_device_name() if cuda else machine(torch.get_num_threads()), torch.__version__)
    side = max(phase.size for phase in config.schedule)
    started = time.monotonic()
    pool = ScenePool(config, where.device, side=side)
    try:
        for phase in config.schedule[-1 if options.last else 0 :]:
            ways = (False, True) if phase is config.schedule[-1] and config.compile else (False,)
            for compiled in ways[-1:] if options.last else ways:
                print(line(replace(config, schedule=(phase,), compile=compiled), pool, where, options), flush=True)
        print(f"scenes drawn: {pool.drawn / (time.monotonic() - started):.0f} a second, {config.workers} processes")
    finally:
        pool.close()


def line(config: DistillConfig, pool: ScenePool, where: Processes, options: argparse.Namespace) -> str:
    """Return the figures of one phase."""
    (phase,) = config.schedule
    student, _ = start_run(config)
    student.to(where.device, memory_format=torch.channels_last)
    prepare(student, config)
    trainer = Trainer(config, student, make_step(student, None, config), where, target=lambda *_: None)
    first = timed(trainer, pool, phase, range(WARM_UP))
    seconds = timed(trainer, pool, phase, range(WARM_UP, WARM_UP + options.steps)) / options.steps
    if options.profile and phase.size == options.profile:
        profiled(trainer, pool, phase)
    memory = ""
    if where.device.type == "cuda":
        memory = f"  {torch.cuda.max_memory_allocated() / 2**30:5.1f} GiB"
        torch.cuda.reset_peak_memory_stats()
    way = "compiled" if config.compile else "eager"
    rounds = config.rounds if phase.rounds is None else phase.rounds
    return (
        f"{phase.size:4} px  batch {phase.batch:4}  {rounds} rounds  {way:8}  first {WARM_UP} steps {first:6.1f} s"
        f"  step {1000 * seconds:7.1f} ms  {phase.batch / seconds:7.0f} images/s{memory}"
    )


def timed(trainer: Trainer, pool: ScenePool, phase: Phase, numbers: range) -> float:
    """Return the seconds that some steps take."""
    start = time.monotonic()
    for number in numbers:
        found = trainer.one(number, pool.batch(number, phase, trainer.generator(number)))
    float(found["loss"])
    return time.monotonic() - start


def profiled(trainer: Trainer, pool: ScenePool, phase: Phase) -> None:
    """Print what one step spends its time on."""
    with torch.profiler.profile() as profile:
        timed(trainer, pool, phase, range(1))
    order = "self_cuda_time_total" if trainer.where.device.type == "cuda" else "self_cpu_time_total"
    print(profile.key_averages().table(sort_by=order, row_limit=18, max_name_column_width=70))


if __name__ == "__main__":
    main()
