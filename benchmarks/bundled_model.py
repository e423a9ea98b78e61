"""How good the bundled model is, on rendered figures that it has never seen.

python -m benchmarks.bundled_model --samples 200 --json numbers.json --sheet sheet.png

Unpaired: the figure wears one garment and is dressed in another; the renderer knows the truth. Everything is measured
inside the agnostic mask, at 256 x 192. Baselines: the mask filled with the garment's mean colour; the truth with its
worn garment filled with the garment's mean colour (the "oracle": silhouette, arms and background are the truth's own);
and the truth after the autoencoder, which no result can beat.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.baselines import reference_images
from benchmarks.registration import register
from stableviton_sdk import TryOnAttention, TryOnPipeline
from stableviton_sdk.data.synthetic import SyntheticSample, render_pair
from stableviton_sdk.evaluation.correspondence.recorder import SEAM, correspondence_distances, true_places
from stableviton_sdk.evaluation.metrics import psnr, similarity_map

CANDIDATES = 8  # garments that the right one has to be told from
SHEET_ROWS = 24


def attention_error(attention: TryOnAttention, sample: SyntheticSample) -> dict[int, float]:
    """Mean distance of the expected garment place from the true one, in pixels of 128 x 96, by block.

    Both are places of the garment's own image: some garments are moved on the canvas before the network sees them.
    """
    errors = {}
    seam = sample.garment_other.shape[0] * SEAM
    for block in attention.blocks:
        found = attention.coordinates(block)
        places = np.dstack(attention.garments[0].to_original(found[..., 0], found[..., 1]))
        true = true_places(sample.correspondence_other, sample.worn_mask_other, found.shape[:2], seam)
        distances = correspondence_distances(places, true)
        if distances.size:
            errors[block] = float(distances.mean() / 2)
    return errors


@torch.no_grad()
def measure(pipe: TryOnPipeline, sample: SyntheticSample, number: int, distractors, derive: bool, **options):
    maps = {} if derive else {
        "mask": Image.fromarray(sample.mask.astype(np.uint8) * 255),
        "agnostic": Image.fromarray(sample.agnostic),
        "densepose": Image.fromarray(sample.densepose),
    }  # fmt: skip
    out = pipe(
        Image.fromarray(sample.person),
        Image.fromarray(sample.garment_other),
        **maps,
        **options,
        generator=torch.Generator().manual_seed(number),
        output_attention=True,
    )
    result, truth, region = np.asarray(out.images[0]), sample.person_in_other, sample.mask
    worn = sample.worn_mask_other
    images = {"model": result, **reference_images(truth, sample.garment_other, region, worn, pipe.vae)}
    values = {"textured": bool(sample.other.design.textured), "attention": attention_error(out.attention, sample)}
    for name, image in images.items():
        similarity = similarity_map(image, truth)
        values[name] = {
            "psnr": psnr(image, truth, region),
            "ssim": similarity.over(region),
            "worn psnr": psnr(image, truth, worn),
            "worn ssim": similarity.over(worn),
        }
    fitted = similarity_map(register(result, truth, worn), truth).over(worn)
    values["model"]["worn ssim registered"] = max(fitted, values["model"]["worn ssim"])
    values["colour error"] = float(np.abs(result[worn].mean(0) - truth[worn].mean(0)).mean())
    rivals = [truth, *sample.person_in_each(distractors)]
    distances = [float(np.square(result[region].astype(float) - rival[region]).mean()) for rival in rivals]
    values["recognised"] = int(np.argmin(distances)) == 0
    return values, result


def summary(rows: list[dict]) -> dict:
    def mean(values: list[float]) -> float:
        return round(float(np.mean(values)), 4)

    told = {"samples": len(rows)}
    for name in ("model", "oracle", "mean colour", "autoencoder"):
        told[name] = {key: mean([row[name][key] for row in rows]) for key in rows[0][name]}
    textured = [row for row in rows if row["textured"]]
    told["textured"] = {"samples": len(textured)}
    for name in ("model", "mean colour"):
        told["textured"][name] = mean([row[name]["worn psnr"] for row in textured])
    told["colour error"] = mean([row["colour error"] for row in rows])
    blocks = sorted({block for row in rows for block in row["attention"]})
    told["attention error"] = {
        block: mean([row["attention"][block] for row in rows if block in row["attention"]]) for block in blocks
    }
    told[f"recognised among {CANDIDATES}"] = mean([row["recognised"] for row in rows])
    return told


def draw_sheet(shown: list[tuple[np.ndarray, ...]], path: Path) -> None:
    """Four columns of person, garment, result, truth."""
    rows = [np.concatenate(images, axis=1) for images in shown]
    columns = 4
    rows += [np.full_like(rows[0], 255)] * (-len(rows) % columns)
    lines = [np.concatenate(rows[start : start + columns], axis=1) for start in range(0, len(rows), columns)]
    Image.fromarray(np.concatenate(lines)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a pipeline's folder instead of the bundled model")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2, help="of the renderer; the model was trained with another one")
    parser.add_argument("--style", default="studio", choices=("studio", "shifted", "photo"))
    parser.add_argument("--steps", type=int, help="denoising steps; default: the model's own")
    parser.add_argument("--detail", type=float, help="detail transfer, from 0 to 1; default: the model's own")
    parser.add_argument("--derive", action="store_true", help="derive the maps from the image, as users do")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    pipe = TryOnPipeline.from_pretrained(arguments.model) if arguments.model else TryOnPipeline.from_bundled()
    pipe.set_progress_bar_config(disable=True)
    rows, shown = [], []
    garments: list = []
    for number in tqdm(range(arguments.samples), unit="pair"):
        sample = render_pair(arguments.seed, number, arguments.style)
        values, result = measure(
            pipe,
            sample,
            number,
            garments[-(CANDIDATES - 1) :],
            arguments.derive,
            num_inference_steps=arguments.steps,
            detail=arguments.detail,
        )
        garments.append(sample.worn)
        rows.append(values)
        if len(shown) < SHEET_ROWS:
            shown.append((sample.person, sample.garment_other, result, sample.person_in_other))
    told = {
        "style": arguments.style,
        "seed": arguments.seed,
        "steps": arguments.steps or pipe.config.default_num_inference_steps,
        "detail": pipe.config.default_detail if arguments.detail is None else arguments.detail,
    }
    told |= summary(rows)
    print(json.dumps(told, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if arguments.sheet:
        draw_sheet(shown, arguments.sheet)


if __name__ == "__main__":
    main()
