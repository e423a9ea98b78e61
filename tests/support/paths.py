"""Where things lie beside the tests."""

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
SHARED = Path(os.environ.get("STABLEVITON_SHARED", ROOT.parent / "shared"))  # samples that may not be committed
