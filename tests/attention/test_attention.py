import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from support.tiny import (
    HEIGHT,
    LATENT_HEIGHT,
    LATENT_WIDTH,
    WIDTH,
    call_arguments,
    mask_image,
    random_image,
    tiny_pipeline,
)

from stableviton_sdk.attention.drawing import places_between, upsample
from stableviton_sdk.attention.recorder import MAX_QUERIES, AttentionRequest
from stableviton_sdk.attention.result import EVEN_SPREAD, TryOnAttention
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.models.attention_maps import attention_map, expected_coordinates
from stableviton_sdk.preprocessing.frame import Frame, choose_frame
from stableviton_sdk.preprocessing.garment import CANVAS, prepare_garment
from stableviton_sdk.preprocessing.inputs import TryOnInputs

CELLS = (64, 48)
GREEN, GREY = (20, 220, 40), (120, 120, 120)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


def inputs_of(photo, mask, frame=None):
    frame = frame or Frame(photo.size, (0, 0, *photo.size))
    person = frame.crop(photo, (WIDTH, HEIGHT))
    return TryOnInputs(photo=photo, frame=frame, frame_person=person, frame_mask=mask, frame_densepose=person)


def attention_of(y, x, spread, garment, *, photo=None, mask=None, frame=None, results=()):
    """The record of one image whose block 0 expects y and x in [0, 1] of the prepared garment in every cell."""
    note = np.stack([np.broadcast_to(part, CELLS) for part in (y, x, spread)], axis=-1).astype(np.float32)
    photo = photo or Image.new("RGB", (192, 256), GREY)
    mask = mask or Image.new("L", (frame.size if frame else photo.size), 255)
    return TryOnAttention({0: {0: note[None]}}, [inputs_of(photo, mask, frame)], [garment], list(results))


def cell_centres(cells=CELLS):
    """y and x of every cell's centre in [0, 1]: what an identity looks at."""
    rows, columns = ((np.arange(count) + 0.5) / count for count in cells)
    return np.meshgrid(rows, columns, indexing="ij")


def block_on(background, size=(192, 256), box=(17, 15, 175, 241), colour=GREY):
    garment = Image.new("RGB", size, background)
    ImageDraw.Draw(garment).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
    return garment


def dot_in(garment, place, radius=6):
    marked = garment.copy()
    ImageDraw.Draw(marked).ellipse([place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius], GREEN)
    return marked


def dot_of(image):
    values = np.asarray(image).astype(float)
    weight = (values[..., 1] - np.maximum(values[..., 0], values[..., 2])).clip(30) - 30
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]]
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


def noisy(size, seed=0):
    values = np.random.default_rng(seed).integers(0, 120, (size[1], size[0]), dtype=np.uint8)
    return Image.fromarray(values).convert("RGB")


GARMENTS = {
    "of the training kind": block_on(CANVAS, (768, 1024), (70, 60, 698, 964)),
    "small, in a corner, on blue": block_on((90, 120, 240), (1200, 900), (600, 100, 900, 560)),
    "a crop without margins": block_on(CANVAS, (300, 500), (2, 2, 298, 498)),
    "a cluttered landscape": noisy((800, 500)),
    "already prepared": prepare_garment(block_on((255, 255, 255), (900, 700), (300, 90, 620, 640))).image,
}


# ---------------------------------------------------------------- source_of


@pytest.mark.parametrize("name", GARMENTS)
def test_a_source_is_a_pixel_of_the_image_that_was_passed_in(name):
    plain = GARMENTS[name]
    place = (round(plain.width * 0.6), round(plain.height * 0.45))
    garment = prepare_garment(dot_in(plain, place), size=(384, 512))
    x, y = dot_of(garment.image)  # where preparing it has drawn the dot
    attention = attention_of((y + 0.5) / 512, (x + 0.5) / 384, 0.0, garment)
    source = attention.source_of(100, 100)
    assert np.hypot(source.x - place[0], source.y - place[1]) < 1.0
    assert source.certainty == 1.0
    assert np.allclose(attention.coordinates(0)[10, 10], (x, y, 1.0), atol=1e-3)


def test_a_turned_photo_of_a_garment_has_its_sources_upright():
    upright = dot_in(block_on(CANVAS, (600, 800), (60, 50, 540, 750)), (200, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    stream = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", exif=exif, quality=95)
    garment = prepare_garment(stream.getvalue())
    x, y = dot_of(garment.image)
    source = attention_of((y + 0.5) / 512, (x + 0.5) / 384, 0.0, garment).source_of(10, 10)
    assert np.hypot(source.x - 200, source.y - 300) < 1.0


def test_a_pixel_that_looks_at_added_canvas_has_the_nearest_pixel_as_its_source():
    garment = prepare_garment(noisy((800, 500)), size=(384, 512))  # padded above and below
    assert garment.frame.box[1] < 0
    source = attention_of(0.0, 0.25, 0.0, garment).source_of(50, 60)
    assert source.y == 0.0
    assert source.x == pytest.approx(0.25 * 800 - 0.5, abs=0.5)
    source = attention_of(1.0, 0.25, 0.0, garment).source_of(50, 60)
    assert source.y == 499.0


def test_sources_follow_a_frame_that_is_a_part_of_the_photo():
    photo = Image.new("RGB", (400, 256), GREY)
    frame = Frame(photo.size, (150, 0, 342, 256))
    y, x = cell_centres()
    garment = prepare_garment(GARMENTS["of the training kind"], size=(384, 512))
    attention = attention_of(y, x, 0.05, garment, photo=photo, frame=frame)
    source = attention.source_of(150 + 96 - 0.5, 64 - 0.5)  # the frame's middle column, a quarter down
    assert (source.x, source.y) == pytest.approx((384 - 0.5, 256 - 0.5), abs=0.5)
    for outside in ((149, 10), (342, 10), (200, -1), (200, 256)):
        with pytest.raises(InvalidInput, match="outside"):
            attention.source_of(*outside)


def test_an_uncertain_neighbour_does_not_pull_a_certain_one_aside():
    cells = np.zeros((1, 2, 3), np.float32)
    cells[0, 0], cells[0, 1] = (10, 20, 0.9), (90, 80, 0.2)
    halfway = places_between(cells, np.array([0.0]), np.array([0.5]))[0, 0]
    assert np.allclose(halfway, (10, 20, 0.55), atol=0.1)
    cells[0, 1, 2] = 0.9  # both certain: bilinear
    assert np.allclose(places_between(cells, np.array([0.0]), np.array([0.5]))[0, 0], (50, 50, 0.9), atol=1e-4)
    values = np.random.default_rng(0).random((5, 4, 2))
    assert np.allclose(upsample(values, np.arange(5.0), np.arange(4.0)), values, atol=1e-6)
    assert np.allclose(upsample(values, np.array([-3.0, 99.0]), np.array([1.0]))[:, 0], values[[0, 4], 1], atol=1e-6)


# ---------------------------------------------------------------- images


def smooth(size, seed=3):
    return random_image(*size, seed=seed)


def test_the_warped_garment_shows_the_pixels_that_the_attention_names():
    garment = prepare_garment(smooth((384, 512)), size=(384, 512))
    y, x = cell_centres()
    mask = mask_image(192, 256)
    warped = attention_of(y, x.clip(0, 0.7) + 0.2, 0.0, garment, mask=mask).warp()
    assert (warped.mode, warped.size) == ("RGBA", (192, 256))
    values = np.asarray(warped).astype(float)
    painted = np.asarray(mask) > 0
    assert (values[~painted, 3] == 0).all()
    assert (values[painted, 3] == 255).all()
    original = np.asarray(garment.original.resize((192, 256), Image.Resampling.BOX)).astype(float)
    shift = round(0.2 * 192)
    inner = painted[:, : 192 - shift] & (np.arange(192 - shift) < 130)
    error = np.abs(values[:, : 192 - shift, :3] - original[:, shift:])[inner]
    assert error.mean() < 2.0
    still = np.abs(values[:, : 192 - shift, :3] - original[:, : 192 - shift])[inner]
    assert still.mean() > 15  # it isn't the garment where it was


def test_the_warped_garment_is_as_solid_as_the_attention_is_certain():
    garment = prepare_garment(smooth((96, 128)), size=(384, 512))
    y, x = cell_centres()
    spread = np.where(x < 0.5, 0.0, EVEN_SPREAD)
    opacity = np.asarray(attention_of(y, x, spread, garment).warp())[..., 3]
    assert (opacity[:, :90] == 255).all()
    assert (opacity[:, 102:] == 0).all()


def test_nothing_is_warped_from_added_canvas():
    garment = prepare_garment(noisy((800, 500)), size=(384, 512))
    y, x = cell_centres()
    opacity = np.asarray(attention_of(y, x, 0.0, garment).warp())[..., 3]
    top, bottom = -garment.frame.box[1], garment.frame.size[1]
    edge = top / bottom * 256
    assert (opacity[: int(edge) - 3] == 0).all()
    assert (opacity[int(edge) + 4 : 250 - int(edge)] == 255).all()


def test_a_large_garment_is_warped_without_aliasing():
    garment = prepare_garment(noisy((1536, 2048)), size=(384, 512))
    y, x = cell_centres()
    warped = np.asarray(attention_of(y, x, 0.0, garment).warp())[8:-8, 8:-8, :3].astype(float)
    # noise of 8 x 8 pixels averages out to a sixth at least; sampled pixel by pixel it wouldn't
    assert warped.std() < np.asarray(garment.original).std() / 5


def test_the_warped_garment_lies_in_the_photos_frame_alone():
    photo = Image.new("RGB", (500, 300), GREY)
    frame = choose_frame(photo.size, (3, 4), (200, 20, 320, 280))
    garment = prepare_garment(smooth((96, 128)), size=(384, 512))
    y, x = cell_centres()
    warped = attention_of(y, x, 0.0, garment, photo=photo, frame=frame).warp()
    assert warped.size == photo.size
    assert warped.getchannel("A").getbbox() == frame.visible_box


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_body_has_the_colours_of_the_garment_places_it_came_from(mirrored):
    flat = block_on(CANVAS)
    garment = prepare_garment(flat, size=(192, 256))
    assert garment.frame.box == (0, 0, 192, 256)
    y, x = cell_centres()
    attention = attention_of(y, 1 - x if mirrored else x, 0.0, garment, results=[Image.new("RGB", (192, 256), GREY)])
    sheet = attention.to_image(height=256)
    left, right = (np.asarray(sheet.crop((12 + part, 38, 204 + part, 294))).astype(float) for part in (0, 204))
    inside = (slice(60, 200), slice(50, 140))
    body = right[:, ::-1] if mirrored else right
    assert np.abs(body[inside] - left[inside]).mean() < 7
    assert left[inside].std(axis=(0, 1)).min() > 15  # colours do vary
    # beside the garment the photo is only dimmed
    ground = right[2:11, 5:40]
    assert np.abs(ground - ground.mean()).max() < 1.5


def test_uncertain_places_have_no_colour():
    garment = prepare_garment(block_on(CANVAS), size=(192, 256))
    y, x = cell_centres()
    sheet = attention_of(y, x, EVEN_SPREAD, garment, results=[np.full((256, 192, 3), 0.5, np.float32)]).to_image(
        height=256
    )
    right = np.asarray(sheet.crop((216, 38, 408, 294))).astype(int)
    assert np.ptp(right, axis=2).max() <= 1


@pytest.mark.parametrize("height", [0, 31, 1e3, True, 100_000, None])
def test_impossible_heights_are_refused(height):
    garment = prepare_garment(block_on(CANVAS), size=(192, 256))
    with pytest.raises(InvalidInput, match="height"):
        attention_of(0.5, 0.5, 0.1, garment).to_image(height=height)


# ---------------------------------------------------------------- what is asked for


class Watcher:
    """Keeps the head-averaged maps of one block."""

    def __init__(self, block=1):
        self.block, self.step, self.maps, self.places = block, 0, {}, {}

    def should_record(self, block):
        return block == self.block

    def record(self, block, query, key, query_size, key_size):
        self.maps[self.step] = attention_map(query, key).unflatten(2, key_size).unflatten(1, query_size)
        self.places[self.step] = expected_coordinates(query, key, key_size)[0].unflatten(1, query_size)


def test_a_recorder_of_ones_own_sees_the_images_branch_at_every_step(pipeline):
    watcher = Watcher()
    options = {"guidance_scale": 2.0, "num_images_per_prompt": 2, "output_type": "latent"}
    plain = pipeline(**call_arguments(**options))
    watched = pipeline(**call_arguments(**options), output_attention=watcher)
    noted = pipeline(**call_arguments(**options), output_attention=True).attention
    assert torch.equal(plain.images, watched.images)
    assert watched.attention is None
    assert sorted(watcher.maps) == [0, 1, 2]
    assert watcher.maps[0].shape == (2, LATENT_HEIGHT, LATENT_WIDTH, LATENT_HEIGHT, LATENT_WIDTH)
    for image in range(2):
        y, x = watcher.places[2][image].numpy()[..., 0], watcher.places[2][image].numpy()[..., 1]
        cells = noted.coordinates(1, step=2, image=image)
        assert np.abs(cells[..., 0] - (x * WIDTH - 0.5)).max() < 0.05
        assert np.abs(cells[..., 1] - (y * HEIGHT - 0.5)).max() < 0.05


def test_full_maps_are_kept_of_the_queries_asked_for(pipeline):
    options = {"guidance_scale": 2.0, "output_type": "latent", "garment": [random_image(seed=1), random_image(seed=5)]}
    watcher = Watcher()
    pipeline(**call_arguments(**options), output_attention=watcher)
    pixels = [(20, 30), (24, 40.5), (47, 63)]
    plain = pipeline(**call_arguments(**options)).images
    output = pipeline(**call_arguments(**options), output_attention=AttentionRequest(queries=pixels))
    assert torch.equal(plain, output.images)
    attention = output.attention
    assert attention.request.query_block == 1
    for image in range(2):
        for x, y in pixels:
            row, column = int((y + 0.5) / 4), int((x + 0.5) / 4)
            for step in range(3):
                full = attention.map_of(x, y, step=step, image=image)
                assert full.dtype == np.float32
                assert np.allclose(full, watcher.maps[step][image, row, column], atol=1e-6)
                assert full.sum() == pytest.approx(1.0, abs=1e-5)
            mean = (watcher.maps[1] + watcher.maps[2])[image, row, column] / 2
            assert np.allclose(attention.map_of(x, y, image=image), mean, atol=1e-6)
    assert np.array_equal(attention.map_of(21, 31), attention.map_of(20, 30))  # the same cell of 4 x 4 pixels
    assert np.array_equal(attention.map_of(47.9, 63.9), attention.map_of(47, 63))  # to the very edge
    with pytest.raises(InvalidInput, match="no map was recorded at"):
        attention.map_of(30, 30)
    with pytest.raises(InvalidInput, match="step 7"):
        attention.map_of(20, 30, step=7)
    assert attention.draw_map(20, 30, height=128).size == (2 * (180 + 12) + 12, 128 + 26 + 2 * 12)


def test_only_what_is_asked_for_is_kept(pipeline):
    request = AttentionRequest(steps=[-1], blocks=[0, 2], queries=[(20, 30)], query_block=2)
    attention = pipeline(**call_arguments(), output_attention=request).attention
    assert (attention.blocks, attention.steps, sorted(attention.maps)) == ([0, 2], [2], [2])
    assert attention.maps[2].nbytes == LATENT_HEIGHT * LATENT_WIDTH * 4
    assert (
        sum(note.nbytes for notes in attention.records.values() for note in notes.values())
        == 2 * LATENT_HEIGHT * LATENT_WIDTH * 3 * 2
    )
    without = pipeline(**call_arguments(), output_attention=True).attention
    assert without.maps == {}
    with pytest.raises(InvalidInput, match="AttentionRequest"):
        without.map_of(20, 30)
    assert pipeline(**call_arguments()).attention is None


def test_maps_are_of_the_cell_that_the_photos_frame_says(pipeline):
    person, mask = random_image(200, 100), mask_image(200, 100)
    maps = {"person": person, "mask": mask, "densepose": random_image(200, 100, seed=2)}
    watcher = Watcher()
    pipeline(**call_arguments(**maps), output_attention=watcher)
    output = pipeline(**call_arguments(**maps), output_attention=AttentionRequest(queries=[(100, 50)]))
    frame = output.inputs[0].frame
    row = int((50.5 - frame.box[1]) / frame.size[1] * LATENT_HEIGHT)
    column = int((100.5 - frame.box[0]) / frame.size[0] * LATENT_WIDTH)
    assert np.allclose(output.attention.map_of(100, 50, step=0), watcher.maps[0][0, row, column], atol=1e-6)
    with pytest.raises(InvalidInput, match="outside"):
        pipeline(**call_arguments(**maps), output_attention=AttentionRequest(queries=[(199, 50)]))


BAD_REQUESTS = {
    "steps in words": {"steps": "all"},
    "no steps": {"steps": []},
    "half a step": {"steps": [0.5]},
    "one block": {"blocks": 3},
    "no blocks": {"blocks": ()},
    "a query that is no pixel": {"queries": [3]},
    "a query in three dimensions": {"queries": [(1, 2, 3)]},
    "a query nowhere": {"queries": [(float("nan"), 2)]},
    "queries that are none": {"queries": None},
    "a block in words": {"query_block": "middle"},
    "too many maps": {"queries": [(1, 2)] * (MAX_QUERIES + 1)},
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_impossible_requests_are_refused(name):
    with pytest.raises(InvalidInput, match="output_attention"):
        AttentionRequest(**BAD_REQUESTS[name])


@pytest.mark.parametrize(
    "request_", [AttentionRequest(blocks=[3]), AttentionRequest(query_block=-1), AttentionRequest(steps=[3]), object()]
)
def test_requests_that_the_network_cannot_meet_are_refused(pipeline, request_):
    with pytest.raises(InvalidInput, match="output_attention"):
        pipeline(**call_arguments(), output_attention=request_)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "latent"])
def test_every_kind_of_output_can_be_drawn(pipeline, output_type):
    person, mask = random_image(90, 90), mask_image(90, 90)
    arguments = call_arguments(
        person=person, mask=mask, densepose=random_image(90, 90, seed=2), output_type=output_type
    )
    attention = pipeline(**arguments, output_attention=True).attention
    assert attention.to_image(height=64).size == (2 * (180 + 12) + 12, 64 + 26 + 2 * 12)
    assert attention.warp().size == (90, 90)
    assert attention.sharpest_block() in attention.blocks
    for wrong in ({"image": 1}, {"block": 9}, {"step": 9}):
        with pytest.raises(InvalidInput):
            attention.warp(**wrong)
