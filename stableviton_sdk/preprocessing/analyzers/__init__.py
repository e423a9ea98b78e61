"""Body analyzers: from an image to parse, joints and DensePose."""
