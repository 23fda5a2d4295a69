"""A short-axis stack of a beating heart in a chest, as balanced SSFP cine MR shows it.

The left ventricle is half an ellipsoid with a wall around it, the right ventricle a crescent on its septum. From ED to
ES cavities shrink, the wall thickens and the base descends. All lengths are mm; images are (slices, rows, columns) with
anterior up and the right ventricle on the left. Shapes are drawn as soft masks, averaged through the slice's thickness:
partial volume. Coil profile, tissue texture, blur and Rician noise follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
"""ACDC's groups: normal, infarction, dilated and hypertrophic cardiomyopathy, abnormal right ventricle."""
RV, MYO, LV = 1, 2, 3
CHEST = (
    ("fat", (10, 0), (128, 168), 0.0),
    ("muscle", (12, 0), (114, 152), 0.0),
    ("lung", (-6, -92), (78, 52), 0.0),
    ("lung", (0, 94), (88, 54), 0.0),
    ("lung", (-66, 30), (28, 70), 0.0),
    ("muscle", (-64, -24), (16, 30), 0.2),
    ("liver", (64, -62), (44, 72), -0.25),
    ("stomach", (70, 50), (28, 40), 0.3),
    ("fat", (58, 6), (7, 26), -0.2),
    ("bone", (98, 2), (20, 24), 0.0),
    ("muscle", (108, -38), (14, 22), 0.0),
    ("muscle", (108, 42), (14, 22), 0.0),
    ("blood", (78, 26), (10.5, 10.5), 0.0),
)
"""Tissue, centre (y, x), radii (y, x) in mm and angle of the ellipses around the heart, from back to front; the last is
the descending aorta."""
LUNG_VESSELS = ((-20, -70), (8, -96), (0, 92), (28, 88), (-26, 110), (-38, -84), (40, 104))
SUBSLICES = 3
"""Samples through a slice's thickness."""


@dataclass(frozen=True)
class Heart:
    """A patient's heart; lengths in mm at ED, fractions of them lost by ES."""

    lv_radius: float  # cavity at the base
    wall: float
    length: float  # apex to base
    rv_width: float  # free wall to septum, at the base
    shortening: float  # of the cavity's radius
    rv_shortening: float
    descent: float  # of the length
    septum: float  # direction of the right ventricle, radians
    tilt: tuple[float, float]  # shift of the axis from apex to base
    ovality: float
    infarct: float | None  # direction of a wall segment that does not move, radians

    @staticmethod
    def of_group(group: str, rng: np.random.Generator) -> "Heart":
        """A random heart as the group's definition has it."""
        radius, wall, shortening, rv_width, rv_shortening = {
            "NOR": (24, 8.5, 0.36, 30, 0.32),
            "MINF": (28, 8.5, 0.22, 29, 0.30),
            "DCM": (34, 8.0, 0.13, 31, 0.25),
            "HCM": (22, 15.0, 0.42, 27, 0.34),
            "RV": (23, 8.5, 0.34, 43, 0.15),
        }[group]
        return Heart(
            lv_radius=radius * rng.normal(1, 0.06),
            wall=wall * rng.normal(1, 0.07),
            length=rng.normal(88, 5),
            rv_width=rv_width * rng.normal(1, 0.07),
            shortening=shortening * rng.normal(1, 0.08),
            rv_shortening=rv_shortening * rng.normal(1, 0.08),
            descent=rng.uniform(0.08, 0.15),
            septum=np.pi + rng.normal(0.35, 0.2),
            tilt=tuple(rng.normal(0, 5, 2)),
            ovality=rng.uniform(0.0, 0.08),
            infarct=rng.uniform(0, 2 * np.pi) if group == "MINF" else None,
        )


class ShortAxisPhantom:
    """One patient on one scanner: ``frame`` draws the heart at a moment of the cycle.

    Args:
        group: one of ``GROUPS``
        seed: of everything that differs between patients
        shape: rows and columns, pixels
        spacing: pixel size, mm
        n_slices, slice_spacing: of the stack, mm
    """

    def __init__(
        self,
        group: str,
        seed: int,
        shape: tuple[int, int] = (192, 176),
        spacing: float = 1.6,
        n_slices: int = 10,
        slice_spacing: float = 10.0,
    ):
        self.rng = np.random.default_rng(seed)
        self.heart = Heart.of_group(group, self.rng)
        self.shape, self.spacing, self.slice_spacing = shape, spacing, slice_spacing
        rows, columns = shape
        self.centre = self.rng.normal((4, 14), 6)  # of the base, from the image's middle: y, x
        y = (np.arange(rows) - (rows - 1) / 2) * spacing
        x = (np.arange(columns) - (columns - 1) / 2) * spacing
        self.y, self.x = np.meshgrid(y, x, indexing="ij")
        # the stack reaches from below the apex to above the base
        self.z = (np.arange(n_slices) - 0.7) * slice_spacing * self.heart.length * 1.08 / (n_slices * slice_spacing)
        self.thickness = 0.8 * slice_spacing
        self.intensity = {
            tissue: value * self.rng.normal(1, 0.07)
            for tissue, value in {
                "blood": 1.0, "myocardium": 0.36, "papillary": 0.42, "fat": 0.88, "muscle": 0.30, "liver": 0.44,
                "lung": 0.07, "stomach": 0.22, "bone": 0.18,
            }.items()
        }  # fmt: skip
        self.body = self.rng.normal(1, 0.07, 2)  # height and width of the trunk, relative
        self.organs = self.rng.normal(0, 6, (len(CHEST), 2))  # shift of each organ
        self.texture = gaussian_filter(self.rng.normal(size=(n_slices, *shape)), (0, 1.2, 1.2))
        self.texture /= self.texture.std()
        self.chest = np.stack([self._chest(z) for z in self.z])
        self.coil = self._coil()
        self.noise = self.rng.uniform(0.018, 0.035)
        self.scale = self.rng.uniform(180, 420)

    def frame(self, contraction: float) -> tuple[np.ndarray, np.ndarray]:
        """Image (int16) and labels (uint8; 1 RV, 2 MYO, 3 LV) with ``contraction`` from 0 at ED to 1 at ES."""
        images, labels = [], []
        for z, background in zip(self.z, self.chest, strict=True):
            offsets = ((np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5) * self.thickness
            drawn = [self._heart(z + dz, contraction) for dz in offsets]
            masks = {part: np.mean([d[part] for d in drawn], axis=0) for part in drawn[0]}
            image = background.copy()
            for part, intensity in (
                ("around", self.intensity["fat"] * 0.55),
                ("rv_wall", self.intensity["myocardium"]),
                ("rv", self.intensity["blood"] * 0.96),
                ("epi", self.intensity["myocardium"]),
                ("endo", self.intensity["blood"]),
                ("papillary", self.intensity["papillary"]),
            ):
                image = image * (1 - masks[part]) + intensity * masks[part]
            images.append(image)
            label = np.zeros(self.shape, np.uint8)
            label[(masks["rv"] > 0.5) & (masks["epi"] <= 0.5)] = RV
            label[masks["epi"] > 0.5] = MYO
            label[masks["endo"] > 0.5] = LV
            labels.append(label)
        return self._acquire(np.stack(images)), np.stack(labels)

    def _acquire(self, tissue: np.ndarray) -> np.ndarray:
        """What the scanner makes of the tissue: texture, coil profile, blur, Rician noise."""
        signal = gaussian_filter(tissue * (1 + 0.05 * self.texture) * self.coil, (0, 0.55, 0.55))
        real, imaginary = self.rng.normal(0, self.noise, (2, *signal.shape))
        return np.round(self.scale * np.hypot(signal + real, imaginary)).astype(np.int16)

    def _inside(self, distance: np.ndarray) -> np.ndarray:
        """Soft mask of ``distance`` < 0 (mm), one pixel wide."""
        return np.clip(0.5 - distance / self.spacing, 0, 1)

    def _ellipse(
        self, centre: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray, angle: float = 0.0
    ) -> np.ndarray:
        """Soft mask of an ellipse; centre and radii as (y, x), mm."""
        dy, dx = self.y - centre[0], self.x - centre[1]
        u, v = np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy
        ry, rx = radii
        norm = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
        return self._inside((norm - 1) * min(rx, ry))

    def _heart(self, z: float, contraction: float) -> dict[str, np.ndarray]:
        """Soft masks at height ``z`` above the apex."""
        h = self.heart
        base = h.length * (1 - h.descent * contraction)
        nothing = np.zeros(self.shape)
        drawn = dict.fromkeys(("around", "rv_wall", "rv", "epi", "endo", "papillary"), nothing)
        if not -h.wall < z < base:
            return drawn
        level = z / h.length
        cy, cx = self.centre + np.array(h.tilt) * (1 - level)
        dy, dx = self.y - cy, self.x - cx
        distance, theta = np.hypot(dy, dx), np.arctan2(dy, dx)

        def ellipsoid(height: float) -> float:
            return float(np.sqrt(np.clip(1 - (1 - np.clip(height, 0, 1)) ** 2, 0, 1))) ** 0.85

        shortening = np.full(self.shape, h.shortening * contraction)
        if h.infarct is not None:  # a segment that hardly moves
            shortening *= 1 - 0.8 * np.exp(-0.5 * (np.angle(np.exp(1j * (theta - h.infarct))) / 0.6) ** 2)
        shape = 1 + h.ovality * np.cos(2 * (theta - h.septum))
        profile = ellipsoid(level)
        endo_ed = h.lv_radius * profile * shape
        endo = endo_ed * (1 - shortening)
        # the wall keeps its area while the cavity shrinks; below the cavity it closes the apex
        cap = ellipsoid((z + h.wall) / (h.length + h.wall))
        epi_ed = np.maximum(endo_ed + h.wall * (0.8 + 0.2 * profile), (h.lv_radius + h.wall) * cap * 0.6 * shape)
        epi = np.sqrt(np.maximum(epi_ed**2 - endo_ed**2, 0) + endo**2)
        drawn["epi"] = self._inside(distance - epi)
        drawn["endo"] = self._inside(distance - endo) if level > 0 else nothing

        if level > 0.18:
            rv_profile = ellipsoid((level - 0.18) / 0.82) ** 0.8
            width = h.rv_width * (1 - h.rv_shortening * contraction) * rv_profile
            height = (h.lv_radius + h.wall + 4) * (1 - 0.25 * h.rv_shortening * contraction) * rv_profile
            septum_edge = float(np.mean(epi)) * 0.8
            middle = septum_edge + width / 2 - 6
            centre = (cy + np.sin(h.septum) * middle, cx + np.cos(h.septum) * middle)
            radii = (height, width / 2 + 6)
            drawn["rv"] = self._ellipse(centre, radii, h.septum)
            drawn["rv_wall"] = self._ellipse(centre, (radii[0] + 3, radii[1] + 3), h.septum)
        drawn["around"] = self._ellipse(
            (cy, cx + np.cos(h.septum) * 0.3 * h.rv_width),
            (float(np.mean(epi)) + 4, float(np.mean(epi)) + (0.42 * h.rv_width if level > 0.18 else 0) + 4),
        )
        if 0.25 < level < 0.8:
            radius = 3.6 * (1 + 0.3 * contraction)
            for angle in (h.septum + 0.8 * np.pi, h.septum - 0.75 * np.pi):
                r = 0.66 * float(np.mean(endo))
                centre = (cy + r * np.sin(angle), cx + r * np.cos(angle))
                drawn["papillary"] = np.maximum(drawn["papillary"], self._ellipse(centre, (radius, radius)))
            drawn["papillary"] = drawn["papillary"] * drawn["endo"]
        return drawn

    def _chest(self, z: float) -> np.ndarray:
        """Everything but the heart at height ``z``: air, chest wall, lungs, liver, stomach, spine, aorta."""
        apical = 1 - z / self.heart.length
        image = np.full(self.shape, 0.02)
        for (tissue, centre, radii, angle), shift in zip(CHEST, self.organs, strict=True):
            # the dome of the diaphragm: larger towards the apex
            grown = 0.85 + 0.3 * apical if tissue in ("liver", "stomach") else 1.0
            mask = self._ellipse(centre * self.body + shift, np.array(radii) * grown * self.body, angle)
            image = image * (1 - mask) + self.intensity[tissue] * mask
        for centre in LUNG_VESSELS:
            mask = self._ellipse(centre * self.body + self.organs[0] + (6 * apical, 0), (2.4, 3.0))
            image = image * (1 - mask) + 0.5 * mask
        return image

    def _coil(self) -> np.ndarray:
        """Sensitivity of the receive coils: strongest at the chest wall, smooth, patient-specific."""
        rows, columns = self.shape
        falloff = 1.25 - 0.5 * (self.y - self.y.min()) / np.ptp(self.y)
        field = gaussian_filter(self.rng.normal(size=self.shape), (rows / 4, columns / 4))
        return falloff * np.exp(0.15 * field / field.std())
