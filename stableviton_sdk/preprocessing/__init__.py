"""From a photo to `TryOnInputs`: framing, body analysis, agnostic mask, DensePose."""
