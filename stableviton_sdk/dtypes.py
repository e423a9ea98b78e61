"""Number types by name, and the one that suits a device."""

from __future__ import annotations

import torch

from .errors import InvalidInput

# by the names that the command line and converted folders use
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LONG_NAMES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def resolve_dtype(dtype: torch.dtype | str | None, device: torch.device | str | None = None) -> torch.dtype | None:
    """Number type of a name.

    Args:
        dtype (`torch.dtype`, `str` or `None`):
            A floating type of torch's or its name, `"fp32"` and its like, or `"auto"` for what suits the device; None
            stays None.
        device (`torch.device` or `str`, *optional*): Device to compute on, for `"auto"`; the best there is by default.

    Returns:
        `torch.dtype` or None.

    Raises:
        `InvalidInput`: for any other.
    """
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in DTYPES.values()):
        return dtype
    if isinstance(dtype, str):
        if dtype == "auto":
            return fastest_dtype(device)
        name = dtype.removeprefix("torch.")
        if name in DTYPES or name in LONG_NAMES:
            return {**DTYPES, **LONG_NAMES}[name]
    names = ", ".join((*DTYPES, *LONG_NAMES))
    raise InvalidInput(f"dtype is {dtype!r}: pass one of {names}, auto, or torch.float16 and its like.")


def fastest_dtype(device: torch.device | str | None = None) -> torch.dtype:
    """Half precision where a device computes it in hardware, float32 elsewhere.

    Args:
        device (`torch.device` or `str`, *optional*): Device to compute on; the best there is by default.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(device)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        computes = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return torch.bfloat16 if computes else torch.float32
    if device.type == "cuda":
        # from Pascal's 6.0 on; the released weights were trained, and are run, in float16
        return torch.float16 if torch.cuda.get_device_capability(device) >= (6, 0) else torch.float32
    return torch.float16 if device.type in ("mps", "xpu") else torch.float32
