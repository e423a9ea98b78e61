"""What the images of a batch follow from, beside its rows; and two folders instead of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..choices import (
    CATEGORIES,
    DTYPE_NAMES,
    GARMENT_PHOTOS,
    INIT_FROM,
    QUALITIES,
    Category,
    GarmentPhoto,
    InitFrom,
    Quality,
)
from ..errors import InvalidInput
from ..validation import check_choice, is_whole_number
from .worker import FORMATS


@dataclass(frozen=True)
class Folders:
    """Two folders whose images are paired.

    Args:
        persons (`str`), garments (`str`): Path or address of either folder.
        how (`str`, *optional*, defaults to `"cross"`):
            `"cross"`: each person with each garment; `"zip"`: with the garment of the same name.
    """

    persons: str
    garments: str
    how: Literal["cross", "zip"] = "cross"

    def __post_init__(self) -> None:
        check_choice("how", self.how, ("cross", "zip"))


@dataclass(frozen=True)
class BatchSettings:
    """What the images of a batch follow from, beside the rows.

    Args:
        model (`str`, *optional*, defaults to `"rlawjdghek/StableVITON"`):
            A folder, a checkpoint file, a Hub repository, or `"bundled"`; see `load_place`.
        checkpoint (`str`, *optional*): Which one, where a repository has several.
        dtype (`str`, *optional*): `"fp16"`, `"bf16"` or `"fp32"`; by default fp16 on GPUs, else fp32.
        quality (`str`, *optional*, defaults to `"exact"`), detail (`float`, *optional*), steps (`int`, *optional*),
        guidance_scale (`float`, *optional*, defaults to 1.0), init_from (`str`, *optional*): As for the pipeline's
            call.
        category (`str`, *optional*, defaults to `"upper"`), garment_photo (`str`, *optional*): Of rows that don't say.
        seed (`int`, *optional*, defaults to 0): Together with a row's id it makes the seed of its noise.
        batch_size (`int`, *optional*, defaults to 4): Most images of one call.
        format (`str`, *optional*, defaults to `"png"`): `"png"`, `"webp"` (without loss) or `"jpg"`.
        metadata (`bool`, *optional*, defaults to `True`):
            Whether files say that a network painted in them, and how. Without it an image whose line is missing in
            the manifest can't be recognised, and is made again.
        threads (`int`, *optional*):
            Threads of PyTorch's operations in each process; by default those of the run before, else the CPU's cores
            shared among the processes, and 1 where GPUs compute. Another number rounds otherwise.
    """

    model: str = "rlawjdghek/StableVITON"
    checkpoint: str | None = None
    dtype: str | None = None
    quality: Quality = "exact"
    detail: float | None = None
    steps: int | None = None
    guidance_scale: float = 1.0
    init_from: InitFrom = "agnostic"
    category: Category = "upper"
    garment_photo: GarmentPhoto = "flat-lay"
    seed: int = 0
    batch_size: int = 4
    format: str = "png"
    metadata: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("category", CATEGORIES),
            ("garment_photo", GARMENT_PHOTOS),
            ("init_from", INIT_FROM),
            ("quality", QUALITIES),
            ("format", tuple(FORMATS)),
        ):
            check_choice(name, getattr(self, name), known)
        if self.dtype is not None:
            check_choice("dtype", self.dtype, DTYPE_NAMES)
        for name, least, most in (("seed", 0, 2**63 - 1), ("batch_size", 1, 1024), ("threads", 1, 1024)):
            value = getattr(self, name)
            if name == "threads" and value is None:
                continue
            if not is_whole_number(value) or not least <= value <= most:
                raise InvalidInput(f"{name} is {value!r}: pass a whole number from {least} to {most}.")
