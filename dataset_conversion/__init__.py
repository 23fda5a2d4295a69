"""Public cardiac MR data sets to nnU-Net's raw format."""
