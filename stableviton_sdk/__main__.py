"""`python -m stableviton_sdk`, for where the console script isn't on the path."""

import sys

from .cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
