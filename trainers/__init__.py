"""nnUNetTrainer subclasses: what ``-tr`` names. nnU-Net finds them through ``nnUNet_extTrainer``."""
