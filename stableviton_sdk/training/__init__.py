"""Training: the try-on network (`tryon`), the bundled model's parts (`bundled`), and the loop of both (`loop`)."""

from pathlib import Path

CONFIGS = Path(__file__).parent / "configs"  # of the package's own trainings
