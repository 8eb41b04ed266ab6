"""Executors by name, with their workers counted out."""

import os

from sif_offline.executors.base import Executor, ExecutorError
from sif_offline.executors.local import LocalExecutor
from sif_offline.executors.processes import ProcessExecutor
from sif_offline.executors.ray import RayExecutor

EXECUTORS = ("local", "processes", "ray")


def make_executor(
    name: str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    threads: int | None = None,
    address: str | None = None,
) -> Executor:
    """The executor ``name``.

    Args:
        name: one of :data:`EXECUTORS`.
        device: ``cpu`` or ``cuda``; ``cuda`` gives each process one of this machine's GPUs, each Ray actor
            one of the cluster's. ``cuda:1`` names a single one.
        workers: how many; by default one a GPU, or one a core divided by ``threads``. ``local`` has one.
        threads: CPU threads of torch in each worker; by default the cores divided among the workers.
            ``local`` leaves torch's own number.
        address: of a Ray cluster, by default ``auto``.

    Raises:
        ExecutorError: no such executor, or more workers than devices.
    """
    if name not in EXECUTORS:
        raise ExecutorError(f"executor {name}: not one of {', '.join(EXECUTORS)}")
    if address is not None and name != "ray":
        raise ExecutorError(f"executor {name}: takes no address, only ray does")
    if name == "local":
        if workers not in (None, 1):
            raise ExecutorError(f"executor local: is one worker, not {workers}; take processes or ray")
        return LocalExecutor(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = device.startswith("cuda")
    if name == "ray":
        count = workers or (1 if gpu else max(1, cores // (threads or 1)))
        each = threads or max(1, cores // count)
        return RayExecutor(address=address or "auto", workers=count, gpus=int(gpu), threads=each)
    devices = _gpus(device, workers) if gpu else (device,) * (workers or max(1, cores // (threads or 1)))
    return ProcessExecutor(devices=devices, threads=threads or max(1, cores // len(devices)))


def _gpus(device: str, workers: int | None) -> tuple[str, ...]:
    import torch

    found = torch.cuda.device_count()
    names = (device,) if ":" in device else tuple(f"cuda:{number}" for number in range(found))
    if not found or (workers or 0) > len(names):
        raise ExecutorError(f"executor processes: {workers or 1} workers want a GPU each, {found} are there")
    return names[: workers or len(names)]
