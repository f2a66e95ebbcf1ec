"""Private names of timm that train_patch relies on, all of them, each with what would break without it.

`tests/train_patch/test_private.py` fails when timm changes one. Nothing private of torch is used.
"""

# The upper end of the strengths that an augmentation draws. With another one `check_policy` would try strengths that no
# run asks for, or miss the strongest.
from timm.data.auto_augment import _LEVEL_DENOM as STRONGEST_LEVEL

# The folder that timm reads for a split, synonyms included (`val` for `validation`). With another rule the check of
# --data-dir would look at the wrong folders, and a missing split would be read from the root: training and validation.
from timm.data.dataset_factory import _search_split as search_split

# Which stages `CifarResNet.forward_intermediates` returns. Without it `features_only=True` fails for those networks.
from timm.models._features import feature_take_indices

__all__ = ['STRONGEST_LEVEL', 'feature_take_indices', 'search_split']
