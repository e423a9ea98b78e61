"""Several images on one: a grid with labels, or a row."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .images import load_image

ROW_GAP = 8  # pixels between images in a row
GAP, LABEL = 12, 26  # pixels between tiles, and for a tile's label
MIN_LABEL_WIDTH = 180  # narrow tiles still need room for their labels
PAPER, INK = (250, 250, 250), (40, 40, 40)


def labelled_grid(
    tiles: Sequence[tuple[str, Image.Image | None]], size: tuple[int, int], *, columns: int = 4
) -> Image.Image:
    """Images in rows of equal cells, each under its label.

    Args:
        tiles (`Sequence[tuple[str, PIL.Image.Image | None]]`):
            Label and image of each cell, row by row. An image of another size is scaled to fit into its cell, in its
            own proportions; None leaves the cell empty. Without any label, no room is left for them.
        size (`tuple[int, int]`): Width and height of a cell's image in pixels.
        columns (`int`, *optional*, defaults to 4): Cells in a row; fewer if there are fewer tiles.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    labelled = any(label for label, _ in tiles)
    head = LABEL if labelled else 0
    cell_width, cell_height = max(size[0], MIN_LABEL_WIDTH * labelled) + GAP, size[1] + head + GAP
    sheet = Image.new("RGB", (columns * cell_width + GAP, rows * cell_height + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    for index, (label, image) in enumerate(tiles):
        x, y = GAP + index % columns * cell_width, GAP + index // columns * cell_height
        if label:
            draw.text((x, y + 2), label, fill=INK, font=font)
        if image is not None:
            fitted = _fit(load_image(image, srgb=True), size)
            corner = (x + (size[0] - fitted.width) // 2, y + head + (size[1] - fitted.height) // 2)
            sheet.paste(fitted, corner)
    return sheet


def side_by_side(images: Sequence[Image.Image], height: int | None = None) -> Image.Image:
    """Images in one row on white, scaled to one height, each in its own proportions.

    Args:
        images (`Sequence[PIL.Image.Image]`): At least one.
        height (`int`, *optional*): Height in pixels; by default the first image's.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    height = images[0].height if height is None else height
    scaled = [
        load_image(image, srgb=True).resize(
            (max(1, round(image.width * height / image.height)), height), Image.Resampling.LANCZOS
        )
        for image in images
    ]
    row = Image.new("RGB", (sum(image.width + ROW_GAP for image in scaled) - ROW_GAP, height), "white")
    left = 0
    for image in scaled:
        row.paste(image, (left, 0))
        left += image.width + ROW_GAP
    return row


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    scale = min(size[0] / image.width, size[1] / image.height)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # small images stay sharp: their pixels are what is looked at
    return image.resize(target, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
