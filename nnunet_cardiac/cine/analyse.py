"""From a segmented cine to volumes, phases, indices and flags."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.phases import leading_curve, volume_curves
from nnunet_cardiac.cine.quality import quality_flags
from nnunet_cardiac.cine.segment import SegmentedCine
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import cine_indices
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.evaluation.segments import thickening, wall_thickness


def analyse(
    cine: Cine,
    segmented: SegmentedCine,
    structures: Structures,
    model: Mapping[str, str],
    ed: int | None = None,
    es: int | None = None,
    unusual: Sequence[str] = (),
) -> Analysis:
    """Everything that is measured in a segmented cine.

    Args:
        cine, segmented: images and their labels
        structures: that the labels stand for
        model: what segmented, in words
        ed, es: phases, from 0; None for those of the largest and the smallest volume
        unusual: what is unusual about the images for the model, in sentences

    Raises:
        UserError: no ventricle is labelled
    """
    roles = structures.roles
    if not {"LV", "RV"} & roles.keys():
        labels = ", ".join(structures.values)
        raise UserError(f"The model segments no ventricle, but {labels}: choose another with -m or -d.")
    volumes = _volumes(cine, segmented, structures)
    curves = volume_curves(volumes, cine.heart_rate)
    for role, curve in curves.items():
        volumes[f"{role}_smooth_mL"] = curve.smooth
    leading = leading_curve(curves)
    analysis = Analysis(
        cine=cine,
        labels=segmented.labels,
        structures=structures,
        volumes=volumes,
        ed=leading.ed if ed is None else ed,
        es=leading.es if es is None else es,
        indices={},
        model=dict(model),
    )
    at_ed, at_es = segmented.labels[analysis.ed], segmented.labels[analysis.es]
    thickness = growth = None
    if "MYO" in roles and "LV" in roles:
        thickness = wall_thickness(at_ed, structures, cine.affine)
        growth = thickening(thickness, wall_thickness(at_es, structures, cine.affine))
    rates = {role: (curve.peak_ejection_rate, curve.peak_filling_rate) for role, curve in curves.items()}
    indices = cine_indices(
        analysis.segmentation(analysis.ed),
        analysis.segmentation(analysis.es),
        structures,
        cine.heart_rate,
        cine.patient.body_surface,
        rates,
        thickness,
        growth,
    )
    analysis = replace(analysis, indices=indices, wall_thickness=thickness, thickening=growth)
    flags = [Flag("Unusual image", f"{sentence}.", tuple(indices)) for sentence in unusual]
    return replace(analysis, flags=(*flags, *quality_flags(analysis)))


def _volumes(cine: Cine, segmented: SegmentedCine, structures: Structures) -> pd.DataFrame:
    n_phases = len(cine.voxels)
    table = pd.DataFrame({"phase": range(n_phases), "time_ms": np.nan if cine.times is None else cine.times})
    voxel = float(np.prod(cine.spacing)) / 1000
    for role in ("LV", "RV", "MYO"):
        if role in structures.roles:
            mask = structures.mask(segmented.labels, structures.roles[role])
            table[f"{role}_mL"] = mask.sum((1, 2, 3)) * voxel
    table["disagreement"] = segmented.disagreement
    return table
