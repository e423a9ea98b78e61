"""Attention goes by places on the garment's pattern where a network has them, and by nothing new where it hasn't."""

import numpy as np
import pytest
import torch
from support.tiny import CONTEXT, awaken, tiny_spatial_encoder, tiny_unet

from stableviton_sdk.data.synthetic import SyntheticDataset
from stableviton_sdk.models.attention_maps import attention_map
from stableviton_sdk.models.garment_coordinates import (
    PANELS,
    REACH,
    CoordinateMaps,
    GarmentCoordinates,
    canonical_places,
    coordinate_features,
    with_coordinates,
)
from stableviton_sdk.models.spatial_encoder import SpatialEncoder
from stableviton_sdk.models.zero_cross_attention import ZeroCrossAttention

CHANNELS = (8, 12)


class Keeping:
    """A recorder that keeps what it receives."""

    def __init__(self):
        self.records = {}

    def should_record(self, block):
        return True

    def record(self, block, query, key, query_size, key_size):
        self.records[block] = query, key


def random_maps(query_size, key_size, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(1, *shape, generator=generator) / 2

    return CoordinateMaps(
        draw(PANELS, *query_size), draw(PANELS, 2, *query_size), draw(PANELS, 2, *key_size), draw(PANELS)
    )


def networks():
    torch.manual_seed(3)
    unet = tiny_unet(coordinate_channels=CHANNELS)
    awaken(unet)
    encoder = tiny_spatial_encoder(coordinate_channels=CHANNELS)
    return unet.eval(), encoder.eval()


def test_features_add_the_gaussian_of_the_places_distance_to_the_scores():
    query_size, key_size = (3, 2), (4, 5)
    maps = random_maps(query_size, key_size)
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, 2, count, 4, generator=generator) for count in (6, 20))
    weight = torch.tensor([1.0, 0.25])
    found = attention_map(*with_coordinates(query, key, *coordinate_features(maps, query_size, key_size), weight))

    share = (maps.panels + torch.nn.functional.logsigmoid(maps.there)[..., None, None]).softmax(1).flatten(2)[0]
    worn, flat = maps.worn[0].flatten(2), maps.flat[0].flatten(2)  # (panels, 2, cells)
    distances = (worn[..., :, None] - flat[..., None, :]).square().sum(1)  # (panels, queries, keys)
    gaussian = -(share[..., None] * distances).sum(0) / (2 * REACH**2)
    scores = query @ key.transpose(-1, -2) / 2 + weight.view(1, 2, 1, 1) * gaussian
    torch.testing.assert_close(found, scores.softmax(-1).mean(1), atol=1e-5, rtol=1e-3)


def test_a_query_looks_at_the_key_of_its_own_place():
    height, width = 8, 6
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    place = torch.stack([columns, rows]).expand(1, PANELS, -1, -1, -1)
    maps = CoordinateMaps(torch.zeros(1, PANELS, height, width), place, place.flip(-1), torch.full((1, PANELS), 9.0))
    torch.manual_seed(0)
    block = ZeroCrossAttention(8, 8, num_attention_heads=2, norm_num_groups=4, coordinates=True)
    recorder = Keeping()
    with torch.no_grad():
        features = torch.zeros(1, 8, height, width)
        block(features, features, attention_recorder=recorder, coordinates=maps)
    looked = attention_map(*recorder.records[0])[0].argmax(-1).reshape(height, width)
    mirrored = torch.arange(height * width).reshape(height, width).flip(-1)  # the keys' places run the other way
    assert torch.equal(looked, mirrored)


def test_a_panel_that_the_garment_lacks_is_not_looked_at():
    maps = random_maps((3, 2), (4, 5))
    lacking = maps._replace(there=torch.tensor([[9.0, -30.0, 9.0]]))
    query, _ = coordinate_features(lacking, (3, 2), (4, 5))
    used = query[0, :, : 3 * PANELS].unflatten(-1, (PANELS, 3)).abs().amax(dim=(0, 2))
    assert used[1] < 1e-3 * used[0]


@pytest.mark.parametrize("size", [(16, 12), (9, 7)])
def test_a_network_with_coordinates_runs_at_any_size_and_recording_changes_no_bit(size):
    unet, encoder = networks()
    generator = torch.Generator().manual_seed(0)
    sample, garment = (torch.randn(2, channels, *size, generator=generator) for channels in (13, 4))
    context = torch.randn(2, 1, CONTEXT, generator=generator)
    recorder = Keeping()
    with torch.no_grad():
        features = encoder(sample, 500, context, garment)
        plain = unet(sample, 500, context, features).sample
        recorded = unet(sample, 500, context, features, attention_recorder=recorder).sample
        other = unet(sample, 500, context, (features[0]._replace(worn=features[0].worn + 0.3), *features[1:])).sample
    assert isinstance(features[0], CoordinateMaps)
    assert plain.shape == (2, 4, *size)
    assert torch.equal(plain, recorded)
    assert not torch.allclose(plain, other)
    assert len(recorder.records) == unet.num_zero_cross_attentions


def test_gradients_reach_the_coordinates_through_the_attention():
    unet, encoder = networks()
    generator = torch.Generator().manual_seed(0)
    sample, garment = (torch.randn(1, channels, 8, 6, generator=generator) for channels in (13, 4))
    context = torch.randn(1, 1, CONTEXT, generator=generator)
    unet(sample, 500, context, encoder(sample, 500, context, garment)).sample.square().mean().backward()
    for part in (encoder.coordinates.body, encoder.coordinates.garment, encoder.coordinates.there):
        assert any(parameter.grad.abs().sum() > 0 for parameter in part.parameters())
    assert unet.up_blocks[1].zero_cross_attentions[0].coordinate_weight.grad.abs().sum() > 0


def test_networks_without_coordinates_have_the_weights_they_had():
    assert not any("coordinate" in name for name in tiny_unet().state_dict())
    assert not any("coordinate" in name for name in SpatialEncoder(block_out_channels=(32, 32, 64)).state_dict())


def test_two_garments_on_one_body_have_the_same_places_wherever_both_are_worn():
    data = SyntheticDataset(6, seed=3, style=["photo", "studio", "shifted"], garments="both", moved=0.7)
    for number in range(6):
        items = data[2 * number], data[2 * number + 1]
        places = []
        for item in items:
            pixels = torch.from_numpy(item["correspondence"]).permute(2, 0, 1)[None].nan_to_num(0.0)
            places.append(canonical_places(torch.from_numpy(item["panel_maps"])[None], pixels)[0].numpy())
        for panel in range(PANELS):
            both = (items[0]["panel"] == panel + 1) & (items[1]["panel"] == panel + 1)
            if both.any():
                distances = np.linalg.norm(places[0][panel] - places[1][panel], axis=0)[both]
                assert np.median(distances) < 0.05  # half chests


def test_a_half_precision_network_keeps_its_places():
    maps = random_maps((6, 4), (6, 4))
    exact = coordinate_features(maps, (6, 4), (6, 4))
    rounded = coordinate_features(CoordinateMaps(*(part.half() for part in maps)), (6, 4), (6, 4))
    scores = [query.float() @ key.float().transpose(-1, -2) for query, key in (exact, rounded)]
    differences = [score - score.mean(-1, keepdim=True) for score in scores]
    assert (differences[0] - differences[1]).abs().max() < 2.0  # of differences up to hundreds


def test_the_coordinates_of_one_item_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    network = GarmentCoordinates(9, 4, CHANNELS).eval()
    conditioning, garment = torch.randn(3, 9, 8, 6), torch.randn(3, 4, 8, 6)
    with torch.no_grad():
        together, alone = network(conditioning, garment), network(conditioning[1:2], garment[1:2])
    for whole, part in zip(together, alone, strict=True):
        torch.testing.assert_close(whole[1:2], part, atol=1e-5, rtol=1e-4)
