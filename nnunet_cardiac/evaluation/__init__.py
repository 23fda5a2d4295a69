"""Segmentations against ground truth, clinical indices, and the statistics of comparisons."""
