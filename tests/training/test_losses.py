"""What training minimises: the authors' numbers, finite differences, and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, PNDMScheduler
from safetensors.torch import load_file
from support.stand_ins import FIXTURES, expected

from stableviton_sdk.conversion.architecture import SCHEDULER
from stableviton_sdk.errors import InvalidInput
from stableviton_sdk.models import attention_maps
from stableviton_sdk.training.tryon.losses import (
    AttentionLossRecorder,
    attention_total_variation,
    authors_blocks,
    correspondence_cross_entropy,
    correspondence_targets,
    denoising_loss,
    expected_coordinate_loss,
)

QUERY_SIZE, KEY_SIZE = (5, 4), (6, 3)


def attention(batch=2, heads=2, width=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query, key = (
        torch.randn(batch, heads, size[0] * size[1], width, generator=generator, dtype=dtype).requires_grad_()
        for size in (QUERY_SIZE, KEY_SIZE)
    )
    return query, key


def some_targets(dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    targets = torch.rand(2, QUERY_SIZE[0] * QUERY_SIZE[1], 2, generator=generator, dtype=dtype)
    targets[0, 3:9] = float("nan")
    targets[1, :15] = float("nan")
    return targets


def sharp_attention(coordinates):
    """Queries and keys of one head whose map rests on the key cells given, (queries, 2) as row and column."""
    keys = torch.eye(KEY_SIZE[0] * KEY_SIZE[1])
    indices = [row * KEY_SIZE[1] + column for row, column in coordinates]
    return (keys[indices] * 1000)[None, None], keys[None, None]


@pytest.fixture(scope="module")
def authors_step(stand_in_pipeline):
    """The stand-in's forward pass on the authors' training fixture."""
    fixture, theirs = load_file(FIXTURES / "atv.safetensors"), expected()
    embedding, garment_latent, conditioning = (
        theirs[name].repeat(2, *[1] * (theirs[name].ndim - 1))
        for name in ("image_embedding_768", "garment_latent", "first_stage_cond")
    )
    recorder = AttentionLossRecorder()
    with torch.no_grad():
        sample = torch.cat([fixture["x_t"], conditioning], dim=1)
        features = stand_in_pipeline.spatial_encoder(sample, fixture["timesteps"], embedding, garment_latent)
        noise = stand_in_pipeline.unet(
            sample, fixture["timesteps"], embedding, features, attention_recorder=recorder
        ).sample
    return fixture, recorder, noise, theirs["noise"].repeat(2, 1, 1, 1)


@pytest.mark.slow
def test_total_variation_equals_the_authors_without_a_map(authors_step, monkeypatch):
    fixture, recorder, prediction, _ = authors_step
    monkeypatch.setattr(attention_maps, "attention_map", None)
    assert [record.block for record in recorder.records] == [4]
    loss = recorder.total_variation(fixture["warped_cloth_mask"]) * 0.001
    assert float(loss) == pytest.approx(float(fixture["atv_loss_times_0.001"]), rel=1e-4)
    assert float((prediction - fixture["eps"]).norm() / fixture["eps"].norm()) <= 1e-4


def test_denoising_loss_equals_the_authors(authors_step):
    fixture, _, prediction, noise = authors_step
    loss = denoising_loss(prediction, noise, noise, fixture["timesteps"], PNDMScheduler(**SCHEDULER))
    assert float(loss) == pytest.approx(float(fixture["simple_loss"]), rel=1e-4)


def test_total_variation_is_precise_under_autocast(authors_step):
    fixture, recorder, *_ = authors_step
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = recorder.total_variation(fixture["warped_cloth_mask"]) * 0.001
    assert float(loss) == pytest.approx(float(fixture["atv_loss_times_0.001"]), rel=1e-4)


def test_total_variation_counts_steps_between_worn_neighbours_only():
    # one row down and one column right per step of the query; a garment of the three left columns
    cells = [(row, min(column, 2)) for row in range(QUERY_SIZE[0]) for column in range(QUERY_SIZE[1])]
    query, key = sharp_attention(cells)
    worn = torch.zeros(1, 1, *QUERY_SIZE)
    worn[..., :3] = 1
    assert float(attention_total_variation(query, key, QUERY_SIZE, KEY_SIZE, worn)) == pytest.approx(2.0, abs=1e-5)
    worn[..., 3] = 1  # from column 2 to 3 the attention stands still: 10 steps of 1 among 15 pairs
    loss = attention_total_variation(query, key, QUERY_SIZE, KEY_SIZE, worn)
    assert float(loss) == pytest.approx(1.0 + 10 / 15, abs=1e-5)


def test_no_worn_garment_means_no_loss_and_a_zero_gradient():
    query, key = attention()
    nothing = torch.zeros(2, 8, 8)
    loss = attention_total_variation(query, key, QUERY_SIZE, KEY_SIZE, nothing)
    unknown = torch.full_like(some_targets(), float("nan"))
    loss = loss + correspondence_cross_entropy(query, key, KEY_SIZE, unknown)
    loss = loss + expected_coordinate_loss(query, key, KEY_SIZE, unknown)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(query.grad, torch.zeros_like(query))
    assert torch.equal(key.grad, torch.zeros_like(key))


def test_gradients_of_the_total_variation_agree_with_finite_differences():
    query, key = attention()
    worn = torch.ones(2, 1, *QUERY_SIZE)
    worn[0, 0, 2:, :2] = 0
    assert torch.autograd.gradcheck(
        lambda q, k: attention_total_variation(q, k, QUERY_SIZE, KEY_SIZE, worn), (query, key), eps=1e-6, atol=1e-6
    )


def test_gradients_of_the_cross_entropy_agree_with_finite_differences():
    assert torch.autograd.gradcheck(
        lambda q, k: correspondence_cross_entropy(q, k, KEY_SIZE, some_targets()), attention(), eps=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("chunk_elements", [1, 300])
def test_gradients_of_the_cross_entropy_are_the_same_in_chunks(chunk_elements):
    query, key = attention()
    whole, chunked = (
        torch.autograd.grad(correspondence_cross_entropy(query, key, KEY_SIZE, some_targets(), size), (query, key))
        for size in (2**25, chunk_elements)
    )
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-14)


def test_gradients_of_the_expected_coordinate_agree_with_finite_differences():
    assert torch.autograd.gradcheck(
        lambda q, k: expected_coordinate_loss(q, k, KEY_SIZE, some_targets()), attention(), eps=1e-6, atol=1e-6
    )


def test_cross_entropy_equals_the_one_of_the_whole_map():
    query, key = attention()
    targets = some_targets()
    height, width = KEY_SIZE
    # the truth as a map of its own: bilinear weights, made by hat functions
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    y = (targets[..., :1] * height).clamp(0.5, height - 0.5)
    x = (targets[..., 1:] * width).clamp(0.5, width - 0.5)
    truth = (1 - (rows - y).abs()).clamp_min(0)[..., None] * (1 - (columns - x).abs()).clamp_min(0)[..., None, :]
    truth = truth.flatten(2)
    known = targets.isfinite().all(-1)
    assert torch.allclose(truth[known].sum(-1), torch.ones(int(known.sum()), dtype=torch.float64))
    map_ = attention_maps.attention_map(query, key)
    by_hand = -(truth[known] * map_[known].log()).sum(-1).mean()
    for chunk_elements in (1, 100, 2**25):
        loss = correspondence_cross_entropy(query, key, KEY_SIZE, targets, chunk_elements)
        assert float(loss) == pytest.approx(float(by_hand), rel=1e-12)
    with torch.no_grad():
        loss = correspondence_cross_entropy(query, key, KEY_SIZE, targets)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-12)


def test_even_attention_costs_the_logarithm_of_the_number_of_keys():
    query, key = torch.zeros(2, 2, 20, 4), torch.randn(2, 2, 18, 4, generator=torch.Generator().manual_seed(0))
    loss = correspondence_cross_entropy(query, key, KEY_SIZE, some_targets(torch.float32))
    assert float(loss) == pytest.approx(math.log(18), rel=1e-6)


def test_expected_coordinate_is_the_mean_distance_of_known_queries():
    query, key = sharp_attention([(0, 0)] * 20)  # all look at the first cell, (1/12, 1/6)
    targets = torch.full((1, 20, 2), float("nan"))
    targets[0, 0] = torch.tensor([1 / 12, 1 / 6])
    targets[0, 1] = torch.tensor([1 / 12 + 0.5, 1 / 6 + 0.25])
    assert float(expected_coordinate_loss(query, key, KEY_SIZE, targets)) == pytest.approx(0.375, abs=1e-6)


def test_targets_are_the_places_of_the_cells_centres():
    height, width = 40, 32
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    correspondence = torch.stack([x, y], dim=-1).float()[None]  # the garment as it lies
    correspondence[0, :10] = float("nan")
    worn = torch.ones(1, height, width)
    worn[..., :8] = 0
    targets = correspondence_targets(correspondence, (height, width), (4, 4), worn).unflatten(1, (4, 4))
    assert torch.isnan(targets[0, 0]).all()
    assert torch.isnan(targets[0, :, 0]).all()
    for row in range(1, 4):
        for column in range(1, 4):
            centre = torch.tensor([(row + 0.5) / 4, (column + 0.5) / 4])
            assert torch.allclose(targets[0, row, column], centre, atol=1e-6)


def test_a_target_beside_a_seam_is_its_own_panels():
    correspondence = torch.zeros(1, 8, 8, 2)
    correspondence[0, :, 4:] = 30.0  # another panel begins at the middle cell's centre
    targets = correspondence_targets(correspondence, (40, 40), (1, 1))
    assert torch.allclose(targets, torch.full((1, 1, 2), 30.5 / 40))


def test_places_outside_the_garments_image_are_no_targets():
    correspondence = torch.tensor([[-1.0, 3.0], [3.0, 8.1], [3.0, 3.0]]).view(1, 3, 1, 2)
    targets = correspondence_targets(correspondence, (8, 8), (3, 1))
    assert torch.isnan(targets[0, :2]).all()
    assert torch.allclose(targets[0, 2], torch.tensor([3.5 / 8, 3.5 / 8]))


def test_a_gradient_step_on_the_cross_entropy_turns_attention_towards_the_truth():
    query, key = attention(dtype=torch.float32)
    targets = some_targets(torch.float32)
    optimizer = torch.optim.Adam([query, key], lr=0.1)
    distances = []
    for _ in range(60):
        optimizer.zero_grad()
        correspondence_cross_entropy(query, key, KEY_SIZE, targets).backward()
        optimizer.step()
        distances.append(float(expected_coordinate_loss(query, key, KEY_SIZE, targets)))
    assert distances[-1] < 0.35 * distances[0]


def test_the_authors_choice_is_the_middle_block_of_levels_with_700_to_3000_keys():
    levels = ("UpBlock2D", "TryOnUpBlock2D", "TryOnUpBlock2D", "TryOnUpBlock2D")
    assert authors_blocks(levels, 2, (64, 48)) == [4]
    assert authors_blocks(levels, 2, (128, 96)) == [1]
    assert authors_blocks(("TryOnUpBlock2D",) * 3, 2, (32, 24)) == [7]
    assert authors_blocks(levels, 2, (16, 12)) == []
    recorder = AttentionLossRecorder()
    assert [block for block in range(9) if recorder.should_record(block)] == [1, 4, 7]
    query, key = attention()
    recorder.record(4, query, key, QUERY_SIZE, KEY_SIZE)
    assert recorder.records == []
    with pytest.raises(InvalidInput, match="700 to 3000 garment cells"):
        recorder.total_variation(torch.ones(2, 4, 4))


def test_named_blocks_are_kept_whatever_their_size_and_averaged():
    recorder = AttentionLossRecorder(blocks=[0, 2])
    assert [block for block in range(9) if recorder.should_record(block)] == [0, 2]
    worn, single = torch.ones(2, 8, 8), []
    for seed, block in enumerate([0, 2]):
        query, key = attention(seed=seed)
        recorder.record(block, query, key, QUERY_SIZE, KEY_SIZE)
        single.append(attention_total_variation(query, key, QUERY_SIZE, KEY_SIZE, worn))
    assert float(recorder.total_variation(worn)) == pytest.approx(float(sum(single)) / 2, rel=1e-12)
    places = torch.rand(2, 20, 16, 2, generator=torch.Generator().manual_seed(1)) * 10
    assert float(recorder.cross_entropy(places, (12, 12))) > 0
    assert 0 < float(recorder.expected_coordinate(places, (12, 12))) < 2


def test_velocity_loss_is_zero_for_the_schedulers_own_velocity():
    generator = torch.Generator().manual_seed(0)
    noise, latents = (torch.randn(3, 4, 4, 3, generator=generator) for _ in range(2))
    timesteps = torch.tensor([1, 500, 999])
    scheduler = DDPMScheduler(prediction_type="v_prediction", beta_schedule="scaled_linear")
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    assert float(denoising_loss(velocity, noise, latents, timesteps, scheduler)) < 1e-12
    assert float(denoising_loss(velocity + 0.5, noise, latents, timesteps, scheduler)) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_caps_the_weight_of_the_clean_latents_error(prediction_type):
    """The weight times what the error means for the clean latent is min(SNR, gamma), whatever is predicted."""
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    for timestep in (5, 200, 800):
        timesteps = torch.tensor([timestep])
        noise, latents = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
        signal = float(scheduler.alphas_cumprod[timestep])
        exact = noise if prediction_type == "epsilon" else math.sqrt(signal) * noise
        loss = float(denoising_loss(exact + 1, noise, latents, timesteps, scheduler, min_snr_gamma=5.0))
        ratio = signal / (1 - signal)
        clean_error = 1 / ratio if prediction_type == "epsilon" else 1 - signal
        assert loss == pytest.approx(min(ratio, 5.0) * clean_error, rel=1e-4)


def test_weights_make_a_weighted_mean():
    scheduler = DDPMScheduler()
    noise, timesteps = torch.zeros(1, 4, 2, 2), torch.tensor([3])
    prediction = F.pad(torch.full((1, 4, 1, 2), 2.0), (0, 0, 0, 1))  # error 4 above, 0 below
    weight = torch.tensor([1.0, 0.2]).view(1, 1, 2, 1).expand(-1, -1, -1, 2)
    loss = denoising_loss(prediction, noise, noise, timesteps, scheduler, weight=weight)
    assert float(loss) == pytest.approx(4 * 1.0 / 1.2)


def test_a_scheduler_that_predicts_something_else_is_refused():
    noise = torch.zeros(1, 4, 2, 2)
    with pytest.raises(InvalidInput, match="'sample'"):
        denoising_loss(noise, noise, noise, torch.tensor([3]), DDPMScheduler(prediction_type="sample"))
