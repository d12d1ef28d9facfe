"""The network: uint8 [b s s 3] -> float32 logits [b k], on whatever this machine has. Read `model.py` first."""
