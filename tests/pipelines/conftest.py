import pytest

from stableviton_sdk import TryOnPipeline


@pytest.fixture(scope="module")
def pipe():
    """The bundled model."""
    pipeline = TryOnPipeline.from_bundled()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
