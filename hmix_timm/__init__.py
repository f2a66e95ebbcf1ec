"""HMix and GMix for everyone who trains with timm."""
