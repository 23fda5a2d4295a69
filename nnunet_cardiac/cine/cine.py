"""A short-axis cine: what is read of a patient, whatever it came as."""

from dataclasses import dataclass

import numpy as np

from nnunet_cardiac.dicom import Patient, Source


@dataclass(frozen=True)
class Cine:
    """A short-axis stack over the cardiac cycle.

    Args:
        voxels: (T, Z, Y, X), T phases in the order of time from the R wave, Z slices along their normal
        affine: (4, 4), from indices (x, y, z) to nibabel's world (right, anterior, superior), mm
        times: (T,), ms from the R wave; None where nothing tells them
        heart_rate: beats a minute; None where nothing tells it
        patient: facts that identify nobody
        origin: where it is from, in words without identifiers, for the report: "DICOM, GE, series 3, 10 slices x 20
            phases"
        sources: by phase and slice; None for a cine that was no DICOM
        remarks: what was chosen, left out or assumed, in sentences without identifiers
        problems: files that were left out, in sentences with their paths: for the terminal, not for the report
        heart_rate_is_derived: from the phases' times, as if they covered the whole cycle
        doubts: what of it no number should be trusted for: a title and a sentence each, without identifiers
        shift: by which a slice lies beside its neighbour in their plane at most, mm; in ``voxels`` it does not
    """

    voxels: np.ndarray
    affine: np.ndarray
    times: np.ndarray | None = None
    heart_rate: float | None = None
    patient: Patient = Patient()
    origin: str = ""
    sources: tuple[tuple[Source, ...], ...] | None = None
    remarks: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    heart_rate_is_derived: bool = False
    doubts: tuple[tuple[str, str], ...] = ()
    shift: float = 0.0

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm (Z, Y, X); Z's is the distance between the centres of neighbouring slices."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)
