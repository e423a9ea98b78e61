"""Rendered figures that wear rendered garments, with true correspondence: data that needs no download.

```python
sample = render_pair(seed=0, index=7)                     # person, garment, garment_other, person_in_other, maps
data = SyntheticDataset(10_000, style="shifted")          # for a torch DataLoader
body = sample_body(np.random.default_rng(1))
garment = sample_garment(np.random.default_rng(2), sleeve="long", pattern="plaid")
rendering = render(body, garment)                         # person, parsing, worn_mask, correspondence
```

The worn garment is the flat one, sampled through a closed-form map of the body (`geometry`) and shaded. The agnostic
mask is the one that photos get (`preprocessing.agnostic`). Bodies, poses and cuts are drawn so that it hides every
worn garment entirely, and so that it's the same whichever garment is worn.
"""

from .body import Body
from .figures import render, sample_body, sample_garment
from .garment import Garment, garment_from_coordinates
from .sample import SyntheticDataset, SyntheticSample, assemble, one_thread, render_pair
from .scene import Rendering, Stage

__all__ = [
    "Body",
    "Garment",
    "Rendering",
    "Stage",
    "SyntheticDataset",
    "SyntheticSample",
    "assemble",
    "garment_from_coordinates",
    "one_thread",
    "render",
    "render_pair",
    "sample_body",
    "sample_garment",
]
