"""A few pairs to train on. Processes that read data import this module, so it imports no network."""

import numpy as np

HEIGHT, WIDTH = 32, 24


class Pairs:
    """A few pairs in memory, in which a garment is worn as it lies."""

    def __init__(self, count=5, fail_at=None):
        self.items, self.fail_at, self.read = [made(index) for index in range(count)], fail_at, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.read += 1
        if self.fail_at is not None and self.read > self.fail_at:
            raise KeyboardInterrupt
        return dict(self.items[index])


def made(index):
    from support.tiny import mask_image, random_image

    worn = np.zeros((HEIGHT, WIDTH), dtype=bool)
    worn[8:26, 6:18] = True
    mask = np.asarray(mask_image(WIDTH, HEIGHT)) >= 128
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    garment = np.array(random_image(WIDTH, HEIGHT, seed=index + 100))
    person = np.array(random_image(WIDTH, HEIGHT, seed=index))
    person[worn] = garment[worn]
    agnostic = person.copy()
    agnostic[mask] = 128
    return {
        "person": person,
        "garment": garment,
        "agnostic": agnostic,
        "densepose": np.array(random_image(WIDTH, HEIGHT, seed=index + 200)),
        "mask": mask,
        "worn_mask": worn,
        "correspondence": np.where(worn[..., None], np.stack([x, y], -1), np.float32(np.nan)),
    }
