"""Draw the documentation's diagrams: boxes and arrows, as SVG that needs nothing from elsewhere.

python .ci/diagrams.py
"""

from html import escape
from pathlib import Path

from stableviton_sdk.files import write_text_atomically

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT, GAP_X, GAP_Y = 150, 44, 46, 26

# Boxes by name: column, row, lines of text. Arrows: from, to, text.
DIAGRAMS = {
    "frame": (
        {
            "photo": (0, 0, ["photo"]),
            "person": (1, 0, ["find the person"]),
            "frame": (2, 0, ["frame", "3:4 crop"]),
            "parse": (3, 0, ["parse and joints"]),
            "mask": (4, 0, ["agnostic mask"]),
            "densepose": (3, 1, ["DensePose image"]),
            "agnostic": (4, 1, ["agnostic image", "mask in grey"]),
            "network": (5, 1, ["network"]),
            "paste": (5, 2, ["paste back", "into the photo"]),
        },
        [
            ("photo", "person"),
            ("person", "frame"),
            ("frame", "parse"),
            ("parse", "mask"),
            ("frame", "densepose"),
            ("mask", "agnostic"),
            ("agnostic", "network"),
            ("densepose", "network"),
            ("network", "paste"),
        ],
    ),
    "method": (
        {
            "noisy": (0, 0, ["noisy latent", "4 channels"]),
            "agnostic": (0, 1, ["agnostic latent", "4 channels"]),
            "mask": (0, 2, ["mask", "1 channel"]),
            "pose": (0, 3, ["DensePose latent", "4 channels"]),
            "garment": (0, 4, ["garment latent"]),
            "clip": (0, 5, ["garment's CLIP", "embedding, 1 token"]),
            "inputs": (1, 1.5, ["13 channels"]),
            "spatial": (2, 4, ["spatial encoder"]),
            "unet": (3, 1.5, ["U-Net"]),
            "zero": (3, 4, ["zero cross-attention", "9 decoder blocks"]),
            "noise": (4, 1.5, ["predicted noise"]),
        },
        [
            ("noisy", "inputs"),
            ("agnostic", "inputs"),
            ("mask", "inputs"),
            ("pose", "inputs"),
            ("inputs", "unet"),
            ("inputs", "spatial"),
            ("garment", "spatial"),
            ("clip", "spatial"),
            ("spatial", "zero"),
            ("zero", "unet"),
            ("unet", "noise"),
        ],
    ),
}


def main() -> None:
    for name in DIAGRAMS:
        write_text_atomically(IMAGES / f"{name}.svg", draw(name))


def draw(name: str) -> str:
    """The SVG of a diagram."""
    boxes, arrows = DIAGRAMS[name]
    columns = max(column for column, _, _ in boxes.values()) + 1
    rows = max(row for _, row, _ in boxes.values()) + 1
    width, height = columns * (WIDTH + GAP_X) - GAP_X + 4, rows * (HEIGHT + GAP_Y) - GAP_Y + 4
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="sans-serif" font-size="13">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6b7280"/></marker></defs>',
    ]
    for start, end in arrows:
        (x0, y0), (x1, y1) = edges(boxes[start], boxes[end])
        middle = (x0 + x1) / 2
        path = f"M{x0:g} {y0:g} C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"
        if boxes[start][0] == boxes[end][0]:
            path = f"M{x0:g} {y0:g} L{x1:g} {y1:g}"
        lines.append(f'<path d="{path}" fill="none" stroke="#6b7280" stroke-width="1.4" marker-end="url(#head)"/>')
    for column, row, text in boxes.values():
        x, y = column * (WIDTH + GAP_X), row * (HEIGHT + GAP_Y)
        lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#eef2ff" stroke="#6366f1"/>'
        )
        for number, line in enumerate(text):
            middle = y + HEIGHT / 2 + 4.5 + (number - (len(text) - 1) / 2) * 16
            lines.append(
                f'<text x="{x + WIDTH / 2:g}" y="{middle:g}" text-anchor="middle" fill="#1f2937">{escape(line)}</text>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


def edges(start: tuple, end: tuple) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves its box and meets the other: side by side, or one above the other."""
    (c0, r0, _), (c1, r1, _) = start, end
    x0, y0, x1, y1 = c0 * (WIDTH + GAP_X), r0 * (HEIGHT + GAP_Y), c1 * (WIDTH + GAP_X), r1 * (HEIGHT + GAP_Y)
    if c0 == c1:
        down = r1 > r0
        return (x0 + WIDTH / 2, y0 + HEIGHT * down), (x1 + WIDTH / 2, y1 + HEIGHT * (not down))
    return (x0 + WIDTH, y0 + HEIGHT / 2), (x1, y1 + HEIGHT / 2)


if __name__ == "__main__":
    main()
