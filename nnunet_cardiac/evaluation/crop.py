"""What the crop of a cascade's last stage shows of the heart: the box that it follows against the labels' own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.networks.heart_crop import HeartCrop, heart_box
from nnunet_cardiac.networks.network import Network
from nnunet_cardiac.training.memory import build_network


def evaluate_crop(
    preprocessed: Path,
    previous_stage: Path,
    plans: PlansManager,
    dataset_json: dict,
    configuration: str,
    cases: Sequence[str],
) -> pd.DataFrame | None:
    """The crop of every image, as the last stage of a cascade makes it from the predictions of the stage before.

    An image is a slice in 2D, a volume in 3D. Where the stage before found nothing, all of it is segmented, tile by
    tile: all is inside then.

    Args:
        preprocessed: the data set's folder
        previous_stage: folder of the stage before, with nnU-Net's ``predicted_next_stage``
        plans, dataset_json: of the model
        configuration: a stage that has another before it
        cases: by name

    Returns:
        one row a case and structure: ``pixels`` of it and how many are ``inside`` the crop; the same on all rows of a
        case: ``iou`` of the box with the labels' (mean over images that have one, 0 where none was found), ``images``,
        how many are ``cropped`` and how many have a ``heart``, and the mean ``area`` of the crop relative to the image;
        None where the configuration's network has no crop

    Raises:
        UserError: predictions of the stage before are not there
    """
    manager = plans.get_configuration(configuration)
    crop = crop_of(plans, dataset_json, configuration)
    if crop is None:
        return None
    labels = plans.get_label_manager(dataset_json)
    before = build_network(plans, dataset_json, manager.previous_stage_name)
    boxed = (isinstance(before, Network) and before.boxed_labels) or labels.foreground_labels
    names = {value: name for name, value in dataset_json["labels"].items() if value in labels.foreground_labels}
    data = str(preprocessed / manager.data_identifier)
    predictions = previous_stage / "predicted_next_stage" / configuration
    dataset_class = infer_dataset_class(data)
    rows = []
    for case in cases:
        dataset = dataset_class(data, [case], folder_with_segs_from_previous_stage=str(predictions))
        try:
            _, truth, seen, _ = dataset.load_case(case)
        except (OSError, RuntimeError) as e:
            stage = manager.previous_stage_name
            raise UserError(f"{predictions} has no prediction of {case}: train {stage} on all folds first.") from e
        truth, seen = np.asarray(truth)[0], np.asarray(seen)
        images = list(zip(truth, seen, strict=True)) if len(manager.patch_size) == 2 else [(truth, seen)]
        rows += _evaluate_case(case, images, crop, boxed, names)
    return pd.DataFrame(rows)


def _evaluate_case(case: str, images: list, crop: HeartCrop, boxed: Sequence[int], names: dict[int, str]) -> list[dict]:
    pixels, inside = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    ious, areas = [], []
    for truth, seen in images:
        seen, heart = seen > 0, np.isin(truth, boxed)
        window, shown = crop.window(np.ascontiguousarray(seen)), truth
        if window is not None:
            shown = truth[tuple(slice(max(first, 0), first + size) for first, size in window)]
            areas.append(shown.size / truth.size)
        if heart.any():
            ious.append(_iou(_box(heart), heart_box(np.ascontiguousarray(seen))))
        for label in names:
            pixels[label] += int((truth == label).sum())
            inside[label] += int((shown == label).sum())
    common = {
        "iou": np.mean(ious) if ious else np.nan,
        "images": len(images),
        "heart": len(ious),
        "cropped": len(areas),
        "area": np.mean(areas) if areas else np.nan,
    }
    return [
        {"case": case, "structure": name, "pixels": pixels[label], "inside": inside[label]} | common
        for label, name in names.items()
    ]


def crop_of(plans: PlansManager, dataset_json: dict, configuration: str) -> HeartCrop | None:
    """The crop of a configuration's network, as it works in evaluation; None for a network without one."""
    network = build_network(plans, dataset_json, configuration)
    return network.crop.eval() if isinstance(network, Network) and network.crop is not None else None


def _box(foreground: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of all foreground for each axis."""
    places = np.nonzero(foreground)
    return [(int(p.min()), int(p.max()) + 1) for p in places]


def _iou(box: list[tuple[int, int]], other: list[tuple[int, int]] | None) -> float:
    if other is None:
        return 0.0
    overlap = np.prod([max(min(b, d) - max(a, c), 0) for (a, b), (c, d) in zip(box, other, strict=True)])
    return float(overlap / (np.prod([b - a for a, b in box]) + np.prod([b - a for a, b in other]) - overlap))
