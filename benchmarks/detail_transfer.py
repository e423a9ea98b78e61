"""What detail transfer is worth, on rendered figures that the bundled model has never seen.

python -m benchmarks.detail_transfer --samples 24 --json numbers.json --sheet sheet.png
python -m benchmarks.detail_transfer --samples 16 --height 1024

Unpaired, as `benchmarks.bundled_model`: each figure is dressed in its other garment, with the renderer's own maps.
Each result is measured without detail (at 1024 x 768 that is plain enlargement), with it, and with detail along the
true correspondence at the attention's cells; on the worn garment also after an affine registration to the truth,
which forgives a smooth shift as an eye does. Recognition: whether the result is nearer to the truth than to the same
figure in each of seven garments of the same cut and colours with another print; of garments with a print.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.registration import register
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.attention.detail import transfer_detail
from stableviton_sdk.data.synthetic import SyntheticSample, render_pair
from stableviton_sdk.data.synthetic.cut import sample_cut
from stableviton_sdk.data.synthetic.garment import Garment, draw_garment
from stableviton_sdk.data.synthetic.style import get_style
from stableviton_sdk.data.synthetic.texture import sample_design
from stableviton_sdk.evaluation.correspondence.recorder import SEAM, true_places
from stableviton_sdk.evaluation.metrics import psnr, similarity_map
from stableviton_sdk.preprocessing.garment import PreparedGarment

RIVALS = 7
OTHER = 2  # the part of a sample's generator that draws its other garment: see `render_pair`
SHEET_WIDTH = 384


def garments_of_other_print(seed: int, index: int, sample: SyntheticSample) -> Iterator[Garment]:
    """The sample's other garment with another pattern and graphic in the same colours, cut and trims."""
    style = get_style("studio")
    rng = np.random.default_rng([seed, index, style.code, OTHER])
    sample_cut(rng, None, None, None)
    sample_design(rng, style, None, None)  # what is left of the generator draws the trims
    own = sample.other.design
    prints = np.random.default_rng([seed, index, style.code, OTHER, 1])
    found = 0
    while found < RIVALS:
        design = sample_design(prints, style, None, None)
        if not design.textured or (design.pattern, design.graphic.kind) == (own.pattern, own.graphic.kind):
            continue
        graphic = dataclasses.replace(design.graphic, colours=own.graphic.colours)
        design = dataclasses.replace(design, colours=own.colours, graphic=graphic)
        yield draw_garment(sample.other.cut, design, copy.deepcopy(rng), sample.mask.shape)
        found += 1


def along_truth(
    result: np.ndarray, sample: SyntheticSample, garment: PreparedGarment, mask: Image.Image, cells: tuple[int, int]
) -> np.ndarray:
    """Detail along the true correspondence of the attention's cells, `cells` (height, width) of them."""
    seam = garment.original.height * SEAM
    true = true_places(sample.correspondence_other, sample.worn_mask_other, cells, seam)
    known = np.isfinite(true).all(-1)
    x, y = garment.frame.from_photo(*np.moveaxis(true, -1, 0), garment.image.size)
    places = np.dstack([np.where(known, x, 0), np.where(known, y, 0), known]).astype(np.float32)
    return transfer_detail(result, places, garment, mask)


@torch.no_grad()
def measure(pipe: TryOnPipeline, sample: SyntheticSample, number: int, detail: float, seed: int):
    mask = Image.fromarray(sample.mask.astype(np.uint8) * 255)
    maps = {"mask": mask, "agnostic": Image.fromarray(sample.agnostic), "densepose": Image.fromarray(sample.densepose)}
    person, garment = Image.fromarray(sample.person), Image.fromarray(sample.garment_other)
    images, seconds = {}, {}
    prepared = pipe.prepare_garment(garment)
    for name, strength in (("without", 0.0), ("with", detail)):
        generator = torch.Generator().manual_seed(number)
        started = time.process_time()
        out = pipe(person, prepared, **maps, generator=generator, detail=strength)
        seconds[name] = time.process_time() - started
        images[name] = np.asarray(out.images[0])
    cells = tuple(pipe.unet.config.sample_size)
    images["along the truth"] = along_truth(images["without"], sample, prepared, mask, cells)
    truth, worn = sample.person_in_other, sample.worn_mask_other
    textured = sample.other.design.textured
    rivals = sample.person_in_each(list(garments_of_other_print(seed, number, sample))) if textured else []
    values = {"textured": textured, "seconds": seconds["with"] - seconds["without"]}
    for name, image in images.items():
        similarity = similarity_map(image, truth)
        fitted = similarity_map(register(image, truth, worn), truth)
        values[name] = {
            "psnr": psnr(image, truth, sample.mask),
            "ssim": similarity.over(sample.mask),
            "worn psnr": psnr(image, truth, worn),
            "worn ssim": similarity.over(worn),
            "worn ssim registered": max(fitted.over(worn), similarity.over(worn)),
        }
        if textured:
            likeness = [similarity.over(worn), *(similarity_map(image, rival).over(worn) for rival in rivals)]
            values[name]["recognised"] = float(np.argmax(likeness) == 0)
    return values, images


def summary(rows: list[dict]) -> dict:
    told: dict = {"samples": len(rows), "textured": sum(row["textured"] for row in rows)}
    for name in ("without", "with", "along the truth"):
        keys = ("psnr", "ssim", "worn psnr", "worn ssim", "worn ssim registered", "recognised")
        found = {key: [row[name][key] for row in rows if key in row[name]] for key in keys}
        told[name] = {key: round(float(np.mean(values)), 4) for key, values in found.items() if values}
    told["seconds of CPU"] = round(float(np.median([row["seconds"] for row in rows])), 3)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a pipeline's folder instead of the bundled model")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--seed", type=int, default=91, help="of the renderer; the model was trained with another one")
    parser.add_argument("--height", type=int, default=256, help="of the images; 256, or 1024")
    parser.add_argument("--detail", type=float, help="default: the model's own")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="garment, without, with, truth")
    arguments = parser.parse_args()
    pipe = TryOnPipeline.from_pretrained(arguments.model) if arguments.model else TryOnPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    detail = pipe.config.default_detail if arguments.detail is None else arguments.detail
    rows, sheet = [], []
    for number in tqdm(range(arguments.samples), unit="pair"):
        sample = render_pair(arguments.seed, number, size=(arguments.height * 3 // 4, arguments.height))
        values, images = measure(pipe, sample, number, detail, arguments.seed)
        rows.append(values)
        if arguments.sheet:
            shown = (sample.garment_other, images["without"], images["with"], sample.person_in_other)
            tiles = [Image.fromarray(image).resize((SHEET_WIDTH, SHEET_WIDTH * 4 // 3)) for image in shown]
            sheet.append(np.concatenate([np.asarray(tile) for tile in tiles], axis=1))
    told = {"height": arguments.height, "seed": arguments.seed, "detail": detail} | summary(rows)
    print(json.dumps(told, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if arguments.sheet:
        Image.fromarray(np.concatenate(sheet)).save(arguments.sheet)


if __name__ == "__main__":
    main()
