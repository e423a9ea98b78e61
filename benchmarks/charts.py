"""Bar charts as images, drawn without a plotting library."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from stableviton_sdk.images import save_atomically

WIDTH, ROW, MARGIN, LABEL = 900, 34, 20, 230
BAR, TEXT = (61, 110, 165), (30, 30, 30)


def bar_chart(path: str, title: str, values: dict[str, float]) -> None:
    """Draw one bar for each value, in the order given, with its number.

    Args:
        path (`str`): Image to write.
        title (`str`): Line above the bars.
        values (`dict[str, float]`): By label.
    """
    image = Image.new("RGB", (WIDTH, 2 * MARGIN + ROW * (len(values) + 1)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    draw.text((MARGIN, MARGIN), title, fill=TEXT, font=font)
    room = WIDTH - LABEL - 2 * MARGIN - 70
    for number, (label, value) in enumerate(values.items()):
        top = MARGIN + ROW * (number + 1)
        draw.text((MARGIN, top + 6), label, fill=TEXT, font=font)
        length = room * value / max(values.values())
        draw.rectangle((LABEL, top + 4, LABEL + length, top + ROW - 6), fill=BAR)
        draw.text((LABEL + length + 8, top + 6), f"{value:.3g}", fill=TEXT, font=font)
    save_atomically(image, path)
