"""The parts of `train_patch/compare.py`."""
