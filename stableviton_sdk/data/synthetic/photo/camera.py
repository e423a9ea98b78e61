"""What a camera and a shop's web site do to an image: softness, noise, white balance, exposure, compression."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Camera:
    """One shot's faults; the same for every image that is developed with it.

    Args:
        curves (`np.ndarray`): uint8, (256, 3): what every level of red, green and blue becomes.
        blur (`float`): Gaussian, in pixels at 256 rows; 0 for none.
        scale (`float`): Resolution that is left, as a share.
        noise (`float`): Standard deviation at 256 rows, of 255.
        quality (`int`): JPEG's quality; 0 for none.
        seed (`int`): Seed of the noise.
    """

    curves: np.ndarray
    blur: float
    scale: float
    noise: float
    quality: int
    seed: int

    def develop(self, image: np.ndarray) -> np.ndarray:
        """Develop an image, uint8 RGB, (H, W, 3)."""
        height, width = image.shape[:2]
        if self.scale < 1:
            small = (max(16, round(width * self.scale)), max(16, round(height * self.scale)))
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur * height / 256)
        image = cv2.merge([cv2.LUT(image[..., channel], self.curves[:, channel]) for channel in range(3)])
        if self.noise:
            grain = np.random.default_rng(self.seed).standard_normal((height, width), np.float32) * self.noise
            image = cv2.add(image, cv2.merge((grain, grain, grain)), dtype=cv2.CV_8U)
        if self.quality:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return image


def sample_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera."""
    level = np.arange(256)[:, None] / 255.0
    strong = rng.random() < 0.3
    gain = rng.uniform(0.8, 1.12) if strong else rng.uniform(0.94, 1.06)
    gain = gain * rng.uniform(0.93, 1.07, 3) if strong else gain * rng.uniform(0.98, 1.02, 3)
    curve = level ** rng.uniform(0.82, 1.22)
    contrast = rng.uniform(-0.12, 0.2)
    curve = curve + contrast * curve * (1 - curve) * (2 * curve - 1)
    curves = (255 * gain * curve + rng.uniform(-4, 6)).clip(0, 255)
    return Camera(
        curves=np.rint(curves).astype(np.uint8),
        blur=float(rng.uniform(0.25, 0.6) if rng.random() < 0.5 else rng.uniform(0, 1.1) if rng.random() < 0.3 else 0),
        scale=float(rng.uniform(0.5, 0.95)) if rng.random() < 0.2 else 1.0,
        noise=float(rng.uniform(0.5, 5)) if rng.random() < 0.25 else 0.0,
        quality=int(rng.integers(45, 97)) if rng.random() < 0.6 else 0,
        seed=int(rng.integers(2**31)),
    )
