"""Running other people's scripts: timm's train.py, and any script that mixes with timm's `Mixup`."""
