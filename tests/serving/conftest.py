import pytest
from support.service import running_service

from stableviton_sdk import TryOnPipeline
from stableviton_sdk.serving.guard import Access


@pytest.fixture(scope="session")
def bundled():
    pipeline = TryOnPipeline.from_bundled()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def client(bundled):
    with running_service(bundled, access=Access(requests_a_minute=0)) as made:
        yield made
