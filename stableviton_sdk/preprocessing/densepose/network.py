"""DensePose R-CNN (R_50_FPN_s1x) in plain PyTorch: boxes of people, and the body part that each pixel shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InvalidInput
from .regions import ANCHOR_RATIOS, anchors_at, apply_deltas, clip_boxes, pool, pool_from_levels, suppress, usable

PIXEL_MEAN = (103.53, 116.28, 123.675)  # BGR, in [0, 255]; the standard deviation is 1
PADDING = 32  # images are padded to a multiple of p5's stride
STRIDES = (4, 8, 16, 32, 64)  # of p2..p6
ANCHOR_SIZES = (32, 64, 128, 256, 512)  # for p2..p6, in pixels
PROPOSALS = 1000  # per level before non-maximum suppression, and in total after it
HEAD_BATCH = 16  # people per pass of the DensePose head, which bounds its memory


class DensePoseOutput(NamedTuple):
    """Outputs of the network, one row per person, best first (or in the order of the given boxes).

    Args:
        boxes (`torch.Tensor`): float32, (N, 4), left, top, right, bottom in pixels of the network's image.
        scores (`torch.Tensor`): float32 in [0, 1], (N,), probability that the box shows a person.
        coarse_segm (`torch.Tensor`): (N, 2, 112, 112), logits of background and body.
        fine_segm (`torch.Tensor`): (N, 25, 112, 112), logits of background and the 24 parts of the body's surface.
        u (`torch.Tensor`): (N, 25, 112, 112), first surface coordinate within each part; in [0, 1] once clamped.
        v (`torch.Tensor`): (N, 25, 112, 112), second surface coordinate.
    """

    boxes: Tensor
    scores: Tensor
    coarse_segm: Tensor
    fine_segm: Tensor
    u: Tensor
    v: Tensor


class DensePoseNetwork(nn.Module):
    """DensePose R-CNN with a ResNet-50 feature pyramid, for inference.

    Modules are named like the released tensors. The released batch norms are frozen, so they're folded into the
    convolutions before them: `X.norm.*` of a checkpoint ends up in `X.weight` and `X.bias`.

    In half precision the convolutions run in half; boxes, scores and what is cut out of the feature maps stay in
    float32, because half precision can't tell neighbouring pixels apart at the right edge of a large image.
    """

    def __init__(self):
        super().__init__()
        self.backbone: _FeaturePyramid = _FeaturePyramid()
        self.proposal_generator: _ProposalGenerator = _ProposalGenerator()
        self.roi_heads: _RegionHeads = _RegionHeads()
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.roi_heads.box_head.fc1.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the convolutions' weights."""
        return self.roi_heads.box_head.fc1.weight.dtype

    @torch.no_grad()
    def forward(
        self, image: Tensor, boxes: Tensor | None = None, *, score_threshold: float = 0.05, max_people: int = 10
    ) -> DensePoseOutput:
        """Boxes and body surface of people, or the body surface in given boxes.

        Args:
            image (`torch.Tensor`): float32 BGR in [0, 255], (3, H, W), resized to a short side of 800 pixels.
            boxes (`torch.Tensor`, *optional*):
                (N, 4), left, top, right, bottom in pixels of `image`. Given boxes replace the search for people;
                `scores` is then the probability that each of them shows a person.
            score_threshold (`float`, *optional*, defaults to 0.05): Least score of a person found.
            max_people (`int`, *optional*, defaults to 10): Largest number of people found; the best are kept.

        Returns:
            `DensePoseOutput`

        Raises:
            `InvalidInput`: for an image or boxes of another shape, type or range.
        """
        shape = _check_image(image)
        if boxes is not None:
            boxes = _check_boxes(boxes).to(device=self.device, dtype=torch.float32)
        features = self.extract_features(image)
        if boxes is None:
            boxes, scores = self.detect(features, shape, score_threshold=score_threshold, max_people=max_people)
        else:
            scores = self.roi_heads.classify(features, boxes)[0]
        return DensePoseOutput(boxes, scores, *self.read_surface(self.decode(features), boxes))

    @torch.no_grad()
    def extract_features(self, image: Tensor) -> list[Tensor]:
        """Feature pyramid of an image: p2..p6, each (1, 256, h, w), at strides 4 to 64 of the padded image.

        Args:
            image (`torch.Tensor`): float32 BGR in [0, 255], (3, H, W).
        """
        height, width = image.shape[-2:]
        mean = torch.tensor(PIXEL_MEAN, device=self.device)[:, None, None]
        image = (image.to(self.device, torch.float32) - mean).to(self.dtype)
        # padded after the normalisation: the network has only ever seen padding of the mean colour
        return self.backbone(F.pad(image, (0, -width % PADDING, 0, -height % PADDING))[None])

    @torch.no_grad()
    def propose(self, features: Sequence[Tensor], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Boxes that may hold an object, best first.

        Args:
            features (`list[torch.Tensor]`): p2..p6.
            shape (`tuple[int, int]`): Height and width of the image before padding.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: boxes, float32, (N, 4), and their logits, (N,).
        """
        return self.proposal_generator(features, shape)

    @torch.no_grad()
    def detect(
        self,
        features: Sequence[Tensor],
        shape: tuple[int, int],
        *,
        score_threshold: float = 0.05,
        max_people: int = 100,
    ) -> tuple[Tensor, Tensor]:
        """People in the image.

        Args:
            features (`list[torch.Tensor]`): p2..p6.
            shape (`tuple[int, int]`): Height and width of the image before padding.
            score_threshold (`float`, *optional*, defaults to 0.05): Least score of a person.
            max_people (`int`, *optional*, defaults to 100): Largest number of people; the best are kept.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: boxes, float32, (N, 4), and scores in [0, 1], (N,), best first.
        """
        proposals, _ = self.propose(features, shape)
        scores, deltas = self.roi_heads.classify(features, proposals)
        boxes = clip_boxes(apply_deltas(deltas, proposals, (10.0, 10.0, 5.0, 5.0)), shape)
        kept = usable(boxes) & (scores > score_threshold)
        boxes, scores = boxes[kept], scores[kept]
        best = suppress(boxes, scores, 0.5)[:max_people]
        return boxes[best], scores[best]

    @torch.no_grad()
    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Feature map that the body surface is read from, (1, 256, h, w) at stride 4.

        Args:
            features (`list[torch.Tensor]`): p2..p6.
        """
        return self.roi_heads.decoder(features)

    @torch.no_grad()
    def read_surface(self, decoded: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`coarse_segm`, `fine_segm`, `u` and `v` of the boxes, as in `DensePoseOutput`.

        Args:
            decoded (`torch.Tensor`): Result of `decode`, (1, 256, h, w).
            boxes (`torch.Tensor`): float32, (N, 4), in pixels of the network's image.
        """
        batches = [
            self.roi_heads.read_surface(decoded, boxes[start : start + HEAD_BATCH])
            for start in range(0, max(len(boxes), 1), HEAD_BATCH)
        ]
        coarse_segm, fine_segm, u, v = (torch.cat(maps) for maps in zip(*batches, strict=True))
        return coarse_segm, fine_segm, u, v


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int, out_channels: int, stride: int):
        super().__init__()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)
        else:
            self.shortcut = nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride)  # the stride is here, as in the first ResNets
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu_(self.conv1(x))
        residual = F.relu_(self.conv2(residual))
        return F.relu_(self.conv3(residual).add_(self.shortcut(x)))


class _ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.res2 = self._stage(64, 256, blocks=3, stride=1)
        self.res3 = self._stage(256, 512, blocks=4, stride=2)
        self.res4 = self._stage(512, 1024, blocks=6, stride=2)
        self.res5 = self._stage(1024, 2048, blocks=3, stride=2)

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
        channels = out_channels // 4
        first = _Bottleneck(in_channels, channels, out_channels, stride)
        rest = [_Bottleneck(out_channels, channels, out_channels, 1) for _ in range(blocks - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu_(self.stem.conv1(image)), 3, stride=2, padding=1)
        stages = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            stages.append(x)
        return stages


class _FeaturePyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottom_up = _ResNet()
        for level, channels in zip((2, 3, 4, 5), (256, 512, 1024, 2048), strict=True):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(channels, 256, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(256, 256, 3, padding=1))

    def forward(self, image: Tensor) -> list[Tensor]:
        stages = self.bottom_up(image)
        pyramid: list[Tensor] = []
        merged = None
        for level in (5, 4, 3, 2):
            lateral = self.get_submodule(f"fpn_lateral{level}")(stages.pop())
            merged = lateral if merged is None else lateral.add_(F.interpolate(merged, scale_factor=2.0))
            pyramid.insert(0, self.get_submodule(f"fpn_output{level}")(merged))
        pyramid.append(F.max_pool2d(pyramid[-1], 1, stride=2))
        return pyramid


class _ProposalGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.rpn_head = nn.Module()
        self.rpn_head.conv = nn.Conv2d(256, 256, 3, padding=1)
        self.rpn_head.objectness_logits = nn.Conv2d(256, len(ANCHOR_RATIOS), 1)
        self.rpn_head.anchor_deltas = nn.Conv2d(256, 4 * len(ANCHOR_RATIOS), 1)

    def forward(self, features: Sequence[Tensor], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        levels = [
            self._propose_at(feature, stride, anchor_size, shape)
            for feature, stride, anchor_size in zip(features, STRIDES, ANCHOR_SIZES, strict=True)
        ]
        boxes, logits = (torch.cat(values) for values in zip(*levels, strict=True))
        logits, best = logits.topk(min(PROPOSALS, len(logits)))
        return boxes[best], logits

    def _propose_at(
        self, feature: Tensor, stride: int, anchor_size: int, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        hidden = F.relu_(self.rpn_head.conv(feature))
        # (1, A, h, w) -> (h * w * A,)
        logits = self.rpn_head.objectness_logits(hidden).permute(0, 2, 3, 1).flatten().float()
        # (1, A * 4, h, w) -> (h * w * A, 4)
        deltas = self.rpn_head.anchor_deltas(hidden).permute(0, 2, 3, 1).reshape(-1, 4).float()
        logits, best = logits.topk(min(PROPOSALS, len(logits)))
        anchors = anchors_at(best, feature.shape[-1], stride, anchor_size)
        boxes = clip_boxes(apply_deltas(deltas[best], anchors, (1.0, 1.0, 1.0, 1.0)), shape)
        kept = usable(boxes) & torch.isfinite(logits)
        boxes, logits = boxes[kept], logits[kept]
        kept = suppress(boxes, logits, 0.7)
        return boxes[kept], logits[kept]


class _RegionHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.box_head = nn.Module()
        self.box_head.fc1 = nn.Linear(256 * 7 * 7, 1024)
        self.box_head.fc2 = nn.Linear(1024, 1024)
        self.box_predictor = nn.Module()
        self.box_predictor.cls_score = nn.Linear(1024, 2)  # person, background
        self.box_predictor.bbox_pred = nn.Linear(1024, 4)
        self.decoder = _Decoder()
        self.densepose_head = nn.Module()
        for index in range(1, 9):
            convolution = nn.Conv2d(256 if index == 1 else 512, 512, 3, padding=1)
            self.densepose_head.add_module(f"body_conv_fcn{index}", convolution)
        self.densepose_predictor = nn.Module()
        for name, channels in (("ann_index", 2), ("index_uv", 25), ("u", 25), ("v", 25)):
            upsampling = nn.ConvTranspose2d(512, channels, 4, stride=2, padding=1)
            self.densepose_predictor.add_module(f"{name}_lowres", upsampling)

    def classify(self, features: Sequence[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Score (N,) of each box as a person, and what to change about the box, (N, 4); both float32."""
        pooled = pool_from_levels(features[:4], boxes, 7, STRIDES).flatten(1).to(self.box_head.fc1.weight.dtype)
        hidden = F.relu_(self.box_head.fc2(F.relu_(self.box_head.fc1(pooled))))
        scores = self.box_predictor.cls_score(hidden).float().softmax(dim=1)[:, 0]
        return scores, self.box_predictor.bbox_pred(hidden).float()

    def read_surface(self, decoded: Tensor, boxes: Tensor) -> list[Tensor]:
        x = pool(decoded, boxes, 28, STRIDES[0]).to(decoded.dtype)  # (N, 256, 28, 28)
        for convolution in self.densepose_head.children():
            x = F.relu_(convolution(x))
        return [
            # (N, 512, 28, 28) -> (N, C, 56, 56) -> (N, C, 112, 112)
            F.interpolate(predictor(x), scale_factor=2.0, mode="bilinear", align_corners=False)
            for predictor in self.densepose_predictor.children()
        ]


class _ConvReLU(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(super().forward(x))


class _Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        for name, upsamplings in (("p2", 0), ("p3", 1), ("p4", 2), ("p5", 3)):
            layers: list[nn.Module] = []
            for _ in range(max(upsamplings, 1)):
                layers.append(_ConvReLU(256, 256, 3, padding=1))
                layers.append(nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False))
            self.add_module(name, nn.Sequential(*layers) if upsamplings else nn.Sequential(layers[0]))
        self.predictor = nn.Conv2d(256, 256, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        total = self.p2(features[0])
        for branch, feature in zip((self.p3, self.p4, self.p5), features[1:4], strict=True):
            total.add_(branch(feature))
        return self.predictor(total)


def _check_image(image: Tensor) -> tuple[int, int]:
    if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim != 3 or image.shape[0] != 3:
        what = f"{image.dtype} of {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise InvalidInput(f"image is a {what}: pass a float32 tensor (3, H, W), BGR, in [0, 255].")
    height, width = image.shape[1:]
    if not height or not width:
        raise InvalidInput(f"image has no pixels ({height} x {width}): pass an image of at least 1 x 1.")
    low, high = (float(value) for value in image.aminmax())
    if not (low >= 0 and high <= 255):  # also catches NaN
        raise InvalidInput(f"image has values from {low:.3g} to {high:.3g}: pass BGR in [0, 255], not normalised.")
    return height, width


def _check_boxes(boxes: Tensor) -> Tensor:
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        what = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise InvalidInput(f"boxes is {what}: pass a tensor (N, 4) of left, top, right, bottom in pixels.")
    if not bool(torch.isfinite(boxes).all() & (boxes[:, 2:] > boxes[:, :2]).all()):
        raise InvalidInput("boxes has an empty or non-finite box: pass left < right and top < bottom, in pixels.")
    return boxes
