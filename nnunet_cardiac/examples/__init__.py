"""A patient that comes with the package: SC-HF-I-4 of Sunnybrook, CC0, cropped around the heart.

``SC-HF-I-4/README.md`` says where it is from. It was written by ``docs/make_example.py``.
"""

from pathlib import Path

PATIENT = "SC-HF-I-4"
FOLDER = Path(__file__).parent / PATIENT
CINE = "SC-HF-I-4_4d.nii.gz"
"""The cine: columns, rows, slices from apex to base, phases."""
LABELS = "SC-HF-I-4_{phase}_gt.nii.gz"
"""The experts' contours at ED (cavity and myocardium) and at ES (cavity alone), with ACDC's values."""
ED, ES = 19, 6
"""Phases that the experts drew, counted from 0."""
MYO, LV = 2, 3
