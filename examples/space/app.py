"""A Hugging Face Space: try a garment on, and click the result to see where a pixel came from."""

import functools
import os
import shutil
import tempfile
from pathlib import Path

import torch
from PIL import ImageDraw

from stableviton_sdk.choices import CATEGORIES, QUALITIES
from stableviton_sdk.pipelines.identity import model_identity, result_settings
from stableviton_sdk.pipelines.loading import BUNDLED
from stableviton_sdk.pipelines.places import BUNDLED_MODEL, load_place
from stableviton_sdk.provenance import save_image

TEXT = """# Virtual try-on
Outside the repainted part every pixel stays the photo's. **Click the result** to see where that pixel came from."""


@functools.cache
def pipeline():
    """The model that the environment variable MODEL names, a folder or a Hub repository; else the bundled one."""
    loaded = load_place(os.environ.get("MODEL", BUNDLED_MODEL))
    return loaded.to("cuda" if torch.cuda.is_available() else "cpu")


def try_on(person, garment, category, quality, detail, seed):
    """The result's file, exact and with its settings in it, the record of its pixels' sources, and the file again."""
    options = {"category": category, "quality": quality, "detail": detail}
    generator = torch.Generator().manual_seed(int(seed))
    out = pipeline()(person, garment, **options, generator=generator, output_attention=True)
    file = Path(tempfile.mkdtemp()) / "try-on.png"
    save_image(out.images[0], file, result_settings(pipeline(), model_identity(pipeline()), seed=int(seed), **options))
    return str(file), out.attention, file


def source(attention, x, y):
    """The garment, with a ring around the place that a pixel of the result came from."""
    found, drawn = attention.source_of(x, y), attention.garments[0].original.convert("RGB")
    ring = max(6, drawn.width // 25)
    ImageDraw.Draw(drawn).circle((found.x, found.y), ring, outline="magenta", width=ring // 3)
    return drawn


def build():
    import gradio as gr

    def saying_errors(function, *values):
        try:
            return function(*values)
        except Exception as error:  # the package's own are a sentence each
            raise gr.Error(str(error)) from error

    def forget(file):
        shutil.rmtree(file.parent)

    def on_click(attention, event: gr.SelectData):
        return saying_errors(source, attention, *event.index)

    with gr.Blocks(title="Virtual try-on", delete_cache=(3600, 3600)) as demo:
        gr.Markdown(TEXT)
        attention, made = gr.State(), gr.State()
        with gr.Row():
            person, garment = (
                gr.Image(label=name, type="filepath", format="png", height=400) for name in ("Person", "Garment")
            )
            result = gr.Image(label="Result", format="png", interactive=False, height=400)
            origin = gr.Image(label="Where it came from", format="png", interactive=False, height=400)
        with gr.Row():
            category = gr.Radio(list(CATEGORIES), value="upper", label="Category")
            quality = gr.Radio(list(QUALITIES), value="balanced", label="Quality")
            detail = gr.Slider(0, 1, pipeline().config.default_detail, step=0.05, label="Detail of the garment")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed")
        inputs = [person, garment, category, quality, detail, seed]
        run = functools.partial(saying_errors, try_on)
        done = gr.Button("Try on", variant="primary").click(run, inputs, [result, attention, made])
        done.success(forget, made)  # Gradio has a copy, which it deletes within the hour
        result.select(on_click, attention, origin)
        samples = BUNDLED / "samples"
        pairs = [[str(samples / f"person_{i}.png"), str(samples / f"garment_{3 - i}.png")] for i in (1, 2)]
        gr.Examples(pairs, [person, garment])
    return demo


if __name__ == "__main__":
    build().queue(max_size=16).launch()
