"""A garment on the canvas that the network was trained with."""

from PIL import Image

from ..images import load_image
from .framing import choose_frame

CANVAS = (246, 246, 246)


def prepare_garment(garment, *, size=(384, 512), garment_photo="flat-lay", parser=None) -> Image.Image:
    """Pad a garment picture to the canvas's proportions and scale it."""
    picture = load_image(garment, name="garment", background=CANVAS)
    return choose_frame(picture.size, size).crop(picture, size, resample=Image.Resampling.LANCZOS, fill=CANVAS)
