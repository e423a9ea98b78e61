"""Devices, the number types that they compute, and which options fit their memory."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from ..files import format_bytes
from .finding import Finding

SECTION = "machine"
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
GB = 10**9
# Resident memory of a process, weights and one call included: the bundled model's, and the authors' in bfloat16.
BUNDLED_MEMORY, FULL_SIZE_MEMORY = 1.5 * GB, 6 * GB
# On a GPU, from its memory on; the weights take 4 GB in 16 bits. The first that fits is what is named.
GPU_OPTIONS = (
    (11 * GB, 'TryOnPipeline.from_pretrained(..., dtype="auto").to("cuda")'),
    (6 * GB, "pipe.enable_model_cpu_offload()"),
    (3 * GB, "pipe.enable_sequential_cpu_offload(), or pipe.enable_group_offload(...)"),
)


def check_machine(can_import_torch: bool = True) -> list[Finding]:
    """Findings about processor, memory and accelerators.

    Args:
        can_import_torch (`bool`, *optional*, defaults to `True`): Whether to look at what torch sees.
    """
    findings = [*_check_memory()]
    if can_import_torch:
        findings += [*_check_cpu(), *_check_cuda(), *_check_mps()]
    return findings


def memory_advice(available: float) -> str:
    """Which weights fit a machine's memory.

    Args:
        available (`float`): Bytes.
    """
    if available < BUNDLED_MEMORY:
        return "too little even for the bundled model: close other programs"
    if available < FULL_SIZE_MEMORY:
        return "enough for the bundled model; on a CPU the authors' weights need about 6 GB in bfloat16, 9 in float32"
    return "enough for the authors' weights on a CPU"


def gpu_advice(total: float) -> str:
    """The way to run the authors' weights on a GPU.

    Args:
        total (`float`): Bytes of the GPU's memory.
    """
    return next((option for least, option in GPU_OPTIONS if total >= least), "use the CPU: this memory is too small")


def _check_memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    limits = [int(text) for path in CGROUP_LIMITS if (text := _read(path)).isdecimal()]
    total = min([memory.total, *limits])
    available = min(memory.available, total)
    value = f"{format_bytes(available)} of {format_bytes(total)} free: {memory_advice(available)}"
    yield Finding(SECTION, "memory", "ok" if available >= BUNDLED_MEMORY else "warning", value)


def _check_cpu() -> Iterator[Finding]:
    import torch

    from ..dtypes import fastest_dtype

    name = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    half = fastest_dtype("cpu") == torch.bfloat16
    value = f"{name}, {cores} cores, {torch.get_num_threads()} threads; bf16 {'computed' if half else 'not computed'}"
    yield Finding(SECTION, "cpu", "ok", f'{value}; dtype="auto" is {_short(fastest_dtype("cpu"))}')


def _check_cuda() -> Iterator[Finding]:
    import torch

    from ..dtypes import fastest_dtype

    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        gpu = Path("/proc/driver/nvidia/version").exists()
        cure = "install the driver, or a torch that was built for it: https://pytorch.org/get-started" if gpu else None
        value = "no GPU that torch can use" + (f" (torch was built for {built})" if built else " (a build for CPUs)")
        yield Finding(SECTION, "cuda", "warning" if gpu else "note", value, cure)
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory, dtype = properties.total_memory, _short(fastest_dtype(f"cuda:{index}"))
        value = (
            f"{properties.name}, {format_bytes(memory)}, compute capability {properties.major}.{properties.minor}; "
            f'dtype="auto" is {dtype}; {gpu_advice(memory)}'
        )
        yield Finding(SECTION, f"cuda:{index}", "ok", value)


def _check_mps() -> Iterator[Finding]:
    import torch

    from ..dtypes import fastest_dtype

    if torch.backends.mps.is_available():
        yield Finding(SECTION, "mps", "ok", f'Apple GPU; dtype="auto" is {_short(fastest_dtype("mps"))}')
    elif platform.system() == "Darwin":
        yield Finding(SECTION, "mps", "note", "no Apple GPU that torch can use")


def _short(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
