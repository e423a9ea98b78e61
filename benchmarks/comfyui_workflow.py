"""Run the ComfyUI nodes in a ComfyUI that is running: image, interrupt, unload.

    cp -r examples/comfyui ComfyUI/custom_nodes/stableviton-tryon
    cp stableviton_sdk/bundled/samples/*.png ComfyUI/input/
    (cd ComfyUI && python main.py --cpu) &
    python benchmarks/comfyui_workflow.py http://127.0.0.1:8188

Queues the example workflow through ComfyUI's HTTP API, compares its image with the pipeline's own, interrupts a long
run, and with --pid reads the process's memory before and after `unload`.
"""

import argparse
import io
import json
import os
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.pipelines.loading import BUNDLED

WORKFLOW = Path(__file__).parents[1] / "examples" / "comfyui" / "example_workflows" / "try_on.json"
SAMPLES = BUNDLED / "samples"
TRY_ON, MODEL = "5", "3"  # ids of the example's nodes


class ComfyUI:
    """A running ComfyUI's HTTP API."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")

    def ask(self, path: str, body: dict | None = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def prompt_of(self, workflow: dict) -> dict:
        """A saved workflow in the form that the API takes."""
        sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
        return {str(node["id"]): self._inputs_of(node, sources) for node in workflow["nodes"]}

    def _inputs_of(self, node: dict, sources: dict) -> dict:
        described = json.loads(self.ask(f"/object_info/{node['type']}"))[node["type"]]["input"]
        linked = {entry["name"]: sources[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        inputs, values = dict(linked), iter(node["widgets_values"])
        for name, (kind, *options) in {**described.get("required", {}), **described.get("optional", {})}.items():
            if isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
                inputs[name] = next(values)
                if options and options[0].get("control_after_generate"):
                    next(values)  # what the page does with a seed after a run
        return {"class_type": node["type"], "inputs": inputs}

    def start(self, prompt: dict) -> str:
        return json.loads(self.ask("/prompt", {"prompt": prompt}))["prompt_id"]

    def finish(self, run: str) -> dict:
        while not (history := json.loads(self.ask(f"/history/{run}"))):
            time.sleep(0.1)
        return history[run]

    def image(self, run: dict) -> Image.Image:
        name = run["outputs"]["6"]["images"][0]
        query = urllib.parse.urlencode({key: name[key] for key in ("filename", "subfolder", "type")})
        return Image.open(io.BytesIO(self.ask(f"/view?{query}"))).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8188")
    parser.add_argument("--pid", type=int, help="ComfyUI's process, whose memory is read for `unload`")
    parser.add_argument("--model", default="bundled", help="what is unloaded: a name in ComfyUI's models/stableviton")
    arguments = parser.parse_args()
    comfy = ComfyUI(arguments.address)
    prompt = comfy.prompt_of(json.loads(WORKFLOW.read_text()))

    started = time.monotonic()
    run = comfy.finish(comfy.start(prompt))
    print(f"workflow: {run['status']['status_str']} after {time.monotonic() - started:.1f} s")
    pipe = TryOnPipeline.from_bundled()
    generator = torch.Generator().manual_seed(prompt[TRY_ON]["inputs"]["seed"])
    quality = prompt[TRY_ON]["inputs"]["quality"]
    expected = pipe(SAMPLES / "person_1.png", SAMPLES / "garment_2.png", quality=quality, generator=generator).images[
        0
    ]
    difference = np.abs(np.asarray(expected, np.int16) - np.asarray(comfy.image(run), np.int16))
    print(f"against pipe(...): {np.count_nonzero(difference)} values differ, by {difference.max()} of 255 at most")

    prompt[TRY_ON]["inputs"] |= {"steps": 200, "quality": "exact"}
    started, run = time.monotonic(), comfy.start(prompt)
    time.sleep(3)
    comfy.ask("/interrupt", {})
    status = comfy.finish(run)["status"]
    events = [name for name, _ in status["messages"]]
    print(f"interrupt: {events[-1]} {time.monotonic() - started - 3:.1f} s after it was asked for")

    if arguments.pid is None:
        return
    prompt[MODEL]["inputs"]["name"] = arguments.model
    used = [resident_memory(arguments.pid)]
    for unload in (False, True, False, True):
        prompt[TRY_ON]["inputs"] |= {"steps": 2, "quality": quality, "unload": unload, "seed": len(used)}
        run = comfy.finish(comfy.start(prompt))
        used.append(resident_memory(arguments.pid))
    megabytes = [f"{size / 1e6:.0f} MB" for size in used]
    print(f"memory before, after a run, unloaded, after a run, unloaded: {', '.join(megabytes)}")


def resident_memory(pid: int) -> int:
    """Of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
