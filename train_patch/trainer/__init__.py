"""The parts of `train_patch/train.py`."""
