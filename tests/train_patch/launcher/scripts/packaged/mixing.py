from timm.data import FastCollateMixup


class Collate(FastCollateMixup):
    """A subclass, as public code has them: takes what timm's takes and counts its batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.count = 0

    def __call__(self, batch, _=None):
        self.count += 1
        images, targets = super().__call__(batch)
        return images, targets, self.count


class Turns:
    """A collate function that has others take turns."""

    def __init__(self, *collates):
        self.collates = collates
        self.count = 0

    def __call__(self, batch):
        collate = self.collates[self.count % len(self.collates)]
        self.count += 1
        return collate(batch)
