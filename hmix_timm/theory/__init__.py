"""The paper's analysis, recomputed from the masks that the mixers train with."""
