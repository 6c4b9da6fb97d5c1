"""The precision ladder: FP32, FP16, INT8 and a naive control beside each other, in one run."""
