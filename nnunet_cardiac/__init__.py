"""Published cardiac-MR segmentation architectures inside an unmodified nnU-Net v2."""
