"""Running training with the mixers of hmix_timm: a launcher for timm's train.py, a lean script, comparisons."""
