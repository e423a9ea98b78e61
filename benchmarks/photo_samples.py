"""How the bundled model does on real photos, which it was not trained on: figures, and sheets to look at.

python benchmarks/photo_samples.py --samples DIR --output FOLDER [--only body nobody pairs leak sheets]

DIR holds two folders. `vitonhd`: samples of VITON-HD with `image`, `cloth`, `image-parse`, `openpose-json` and
`agnostic-mask-reference`. `photos`: `person` and `garment`, where equal names are a person in that garment.

`body`: the body network against the reference's mask (intersection over union), joints (mean distance of neck,
shoulders, elbows, wrists and hips as a share of the height) and parse (share of equal pixels). `nobody`: flat garments
and rendered empty scenes, in which nobody may be found, and photos of people, who must be. `pairs`: people dressed in
the garment that they wear already, against the photo, inside masks that are frozen in `photo_masks`. `leak`: whether
another colour of the worn garment, with all maps kept, changes a result inside the mask. `sheets`: every person in
every garment.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.baselines import mean_colour
from stableviton_sdk import TryOnPipeline
from stableviton_sdk.errors import NoPersonFound
from stableviton_sdk.evaluation.metrics import psnr, similarity_map
from stableviton_sdk.grids import labelled_grid
from stableviton_sdk.images import resize_mask
from stableviton_sdk.preprocessing.labels import CIHP
from stableviton_sdk.training.bundled.body_data import draw_empty

PARTS = ("body", "nobody", "pairs", "leak", "sheets")
MASKS = Path(__file__).parent / "photo_masks"  # the masks of version 0.1.0, dilated by 2 % of the height
RULE_JOINTS = [1, 2, 3, 4, 5, 6, 7, 9, 12]  # BODY_25: those that the mask's rule draws around
EMPTY_SCENES, EMPTY_SEED = 20, 902
TILE = (240, 320)  # width and height of an image in a sheet


def open_rgb(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def measure_body(pipe: TryOnPipeline, samples: Path, output: Path) -> dict:
    """The body network's answers against the reference, for every photo that has a reference mask."""
    folder, rows = samples / "vitonhd", {}
    for path in sorted((folder / "agnostic-mask-reference").glob("*.png")):
        image = open_rgb(folder / "image" / f"{path.stem}.jpg")
        inputs = pipe.prepare(image)
        inputs.to_image().save(output / f"body-{path.stem}.png")
        people = json.loads((folder / "openpose-json" / f"{path.stem}_keypoints.json").read_text())["people"]
        joints = np.array(people[0]["pose_keypoints_2d"]).reshape(25, 3)
        found = inputs.keypoints * (*image.size, 1)
        both = np.array([joint for joint in RULE_JOINTS if joints[joint, 2] > 0 and found[joint, 2] > 0])
        reference = np.asarray(Image.open(path).convert("L")) >= 128
        mask = np.asarray(resize_mask(inputs.frame_mask, image.size)) >= 128
        parsing = np.asarray(Image.open(folder / "image-parse" / path.name))
        labels = np.asarray(Image.fromarray(inputs.parsing).resize(image.size, Image.Resampling.NEAREST))
        rows[path.stem] = {
            "mask IoU": (mask & reference).sum() / (mask | reference).sum(),
            "joint error": np.linalg.norm(joints[both, :2] - found[both, :2], axis=1).mean() / image.height,
            "parse accuracy": (labels == parsing).mean(),
        }
    rows["mean"] = {name: np.mean([row[name] for row in rows.values()]) for name in next(iter(rows.values()))}
    return {name: {key: round(float(value), 4) for key, value in row.items()} for name, row in rows.items()}


def find_nobody(pipe: TryOnPipeline, samples: Path, output: Path) -> dict:
    """Whether people are found where there are some, and only there."""
    flat = {path.name: open_rgb(path) for path in sorted((samples / "photos" / "garment").glob("*.jpg"))}
    scenes = {f"scene {i}": Image.fromarray(draw_empty(EMPTY_SEED, i)) for i in range(EMPTY_SCENES)}
    folders = samples / "photos" / "person", samples / "vitonhd" / "image"
    people = {path.name: open_rgb(path) for folder in folders for path in sorted(folder.glob("*.jpg"))}

    def found(images: dict[str, Image.Image]) -> list[str]:
        names = []
        for name, image in images.items():
            try:
                pipe.prepare(image)
                names.append(name)
            except NoPersonFound:
                pass
        return names

    in_flat, in_scenes, in_photos = found(flat), found(scenes), found(people)
    return {
        "flat garments": len(flat), "taken for people": in_flat, "empty scenes": len(scenes),
        "with people in them": in_scenes, "photos of people": len(people),
        "people missed": sorted(set(people) - set(in_photos)),
    }  # fmt: skip


def pairs_of(samples: Path) -> dict[str, tuple[Path, Path]]:
    """Photos and the garments that are worn in them, where there is a frozen mask."""
    photos, vitonhd = samples / "photos", samples / "vitonhd"
    pairs = {}
    for path in sorted(MASKS.glob("*.png")):
        for person, garment in ((photos / "person", photos / "garment"), (vitonhd / "image", vitonhd / "cloth")):
            both = person / f"{path.stem}.jpg", garment / f"{path.stem}.jpg"
            if all(one.exists() for one in both):
                pairs[path.stem] = both
    return pairs


def measure_pairs(pipe: TryOnPipeline, samples: Path, output: Path) -> dict:
    """People in the garment that they wear, against the photo, inside the frozen masks."""
    rows, tiles = {}, []
    for name, paths in pairs_of(samples).items():
        person, garment = (open_rgb(path) for path in paths)
        region, truth = np.asarray(Image.open(MASKS / f"{name}.png")), np.asarray(person)
        result = pipe(person, garment, generator=torch.Generator().manual_seed(0)).images[0]
        filled = np.where(region[..., None], mean_colour(np.asarray(garment)).round().astype(np.uint8), truth)
        rows[name] = {
            kind: {
                "psnr": round(float(psnr(image, truth, region)), 2),
                "ssim": round(float(similarity_map(image, truth).over(region)), 3),
            }
            for kind, image in (("model", np.asarray(result)), ("mean colour", filled))
        }
        tiles += [(name, person), ("garment", garment), ("result", result), ("mask", Image.fromarray(region))]
    labelled_grid(tiles, TILE, columns=4).save(output / "pairs.png")
    return rows


def find_leaks(pipe: TryOnPipeline, samples: Path, output: Path) -> dict:
    """Pixels inside the mask that depend on the worn garment's colour, though all maps are kept."""
    garment = open_rgb(sorted((samples / "photos" / "garment").glob("*.jpg"))[0])
    leaks = {}
    for path in sorted((samples / "photos" / "person").glob("*.jpg")):
        inputs = pipe.prepare(open_rgb(path))
        labels = Image.fromarray(inputs.parsing)

        def recoloured(image: Image.Image, labels: Image.Image = labels) -> Image.Image:
            cloth = np.asarray(labels.resize(image.size, Image.Resampling.NEAREST)) == CIHP.UPPER_CLOTHES
            values = np.asarray(image)
            return Image.fromarray(np.where(cloth[..., None], 255 - values, values))

        other = replace(inputs, photo=recoloured(inputs.photo), frame_person=recoloured(inputs.frame_person))
        results = [
            np.asarray(pipe(one, garment, generator=torch.Generator().manual_seed(0)).images[0])
            for one in (inputs, other)
        ]
        inside = np.asarray(resize_mask(inputs.frame_mask, inputs.photo.size)) >= 128
        leaks[path.stem] = int(((results[0] != results[1]).any(axis=-1) & inside).sum())
    return {"pixels that changed": leaks}


def draw_sheets(pipe: TryOnPipeline, samples: Path, output: Path) -> dict:
    """Every person in every garment: a sheet for each person, and how the person was analysed."""
    garments = [(path.stem, open_rgb(path)) for path in sorted((samples / "photos" / "garment").glob("*.jpg"))]
    files = []
    for path in sorted((samples / "photos" / "person").glob("*.jpg")):
        inputs = pipe.prepare(open_rgb(path))
        inputs.to_image().save(output / f"inputs-{path.stem}.png")
        results = [
            pipe(inputs, garment, generator=torch.Generator().manual_seed(0)).images[0] for _, garment in garments
        ]
        tiles = [(path.stem, inputs.photo), *garments, ("", None)]
        tiles += [(name, result) for (name, _), result in zip(garments, results, strict=True)]
        files.append(f"sheet-{path.stem}.png")
        labelled_grid(tiles, TILE, columns=len(garments) + 1).save(output / files[-1])
    return {"sheets": files}


MEASURES = dict(zip(PARTS, (measure_body, find_nobody, measure_pairs, find_leaks, draw_sheets), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True, help="folder with vitonhd/ and photos/")
    parser.add_argument("--output", type=Path, required=True, help="folder for numbers.json and the sheets")
    parser.add_argument("--model", help="a pipeline's folder instead of the bundled model")
    parser.add_argument("--preprocessor", help="a preprocessor's folder instead of the model's own")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    pipe = TryOnPipeline.from_pretrained(arguments.model) if arguments.model else TryOnPipeline.from_bundled()
    if arguments.preprocessor:
        from stableviton_sdk.preprocessing.preprocessor import PersonPreprocessor

        pipe.register_modules(preprocessor=PersonPreprocessor.from_pretrained(arguments.preprocessor))
    pipe.set_progress_bar_config(disable=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    numbers = {part: MEASURES[part](pipe, arguments.samples, arguments.output) for part in arguments.only}
    text = json.dumps(numbers, indent=1)
    print(text)
    (arguments.output / "numbers.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
