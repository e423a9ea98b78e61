"""Fine-tune on pairs of one's own by LoRA: train, load, compare.

    python examples/fine_tune.py --pairs my-pairs --output runs/mine --steps 200

`my-pairs` holds the folders person, garment, mask and densepose (and agnostic, if you have it) with files of the same
names. Without --pairs, figures that the package renders take their place. Ends with an image beside the one from
before: comparison.png in the output folder.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from PIL import Image

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.cli.entry import main as stableviton
from stableviton_sdk.data.synthetic import render_pair
from stableviton_sdk.grids import side_by_side
from stableviton_sdk.images import save_atomically


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", help="folder of pairs; by default rendered figures")
    parser.add_argument("--model", help="folder to start from; by default the model in the package")
    parser.add_argument("--output", type=Path, default=Path("runs/mine"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        start = arguments.model
        if start is None:
            start = str(Path(scratch) / "start")
            TryOnPipeline.from_bundled().save_pretrained(start)
        pipe = TryOnPipeline.from_pretrained(start)
        options = {"root": arguments.pairs} if arguments.pairs else {"length": 64, "seed": arguments.seed}
        configuration = {
            "task": "try-on",
            "output": str(arguments.output),
            "steps": arguments.steps,
            "batch_size": 2,
            "workers": 0,
            "trainable": "lora",
            "lora_rank": arguments.rank,
            "augmentation": None,
            "ema_decay": None,
            "start": {"source": "pipeline", "path": start},
            "data": {
                "kind": "folder" if arguments.pairs else "synthetic",
                "size": list(pipe.default_size),
                "options": options,
            },
        }
        file = Path(scratch) / "mine.yaml"
        file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
        status = stableviton(["train", str(file)])
        if status:
            raise SystemExit(status)

        sample = render_pair(arguments.seed, 1, size=(384, 512))
        person, garment = Image.fromarray(sample.person), Image.fromarray(sample.garment_other)
        before = dress(pipe, person, garment, arguments.seed)
        pipe.load_lora_weights(str(arguments.output))
        after = dress(pipe, person, garment, arguments.seed)
    comparison = arguments.output / "comparison.png"
    save_atomically(side_by_side([person, garment, before, after]), comparison)
    print(comparison)


def dress(pipe: TryOnPipeline, person: Image.Image, garment: Image.Image, seed: int) -> Image.Image:
    return pipe(person, garment, generator=torch.Generator().manual_seed(seed)).images[0]


if __name__ == "__main__":
    main()
