"""What is done with an image before a stage's network sees it, and with what the network has made of it."""

from copy import deepcopy

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import unforeseen


class Stage:
    """One stage of a model, without its networks.

    Args:
        plans, configuration, dataset_json: nnU-Net's
    """

    def __init__(self, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict):
        self.plans, self.configuration, self.dataset_json = plans, configuration, dataset_json
        self.labels = plans.get_label_manager(dataset_json)

    def try_out(self) -> None:
        """Prepares and finishes a small image, as far as plans and data set decide how that is done.

        Raises:
            UserError: it cannot be done
        """
        try:
            image = np.zeros((len(self.dataset_json["channel_names"]), 4, 4, 4), np.float32)
            previous = np.zeros((4, 4, 4)) if self.configuration.previous_stage_name else None
            spacing = max(self.configuration.spacing)
            data, properties = self.preprocess(image, {"spacing": [spacing] * 3}, previous)
            if not data.isfinite().all():
                raise ValueError("an image has values that are NaN or infinite when it is prepared")
            heads = self.labels.num_segmentation_heads
            self.segment(torch.zeros(heads, *data.shape[1:]), properties)
        except Exception as e:  # whatever nnU-Net raises of plans that are not plans
            raise UserError(
                f"plans.json ({self.plans.plans.get('plans_name')}) and dataset.json are not those of a model "
                f"({unforeseen(e)}): get them again."
            ) from e

    def preprocess(self, image: np.ndarray, properties: dict, previous: np.ndarray | None) -> tuple[torch.Tensor, dict]:
        """The network's input, and what is needed to bring its output back to the image's grid.

        Args:
            image: (C, Z, Y, X), as nnU-Net's reader gives it
            properties: of the reader
            previous: the previous stage's segmentation (Z, Y, X), for a cascaded stage
        """
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        data, seg, properties = preprocessor.run_case_npy(
            image,
            None if previous is None else previous[None].astype(np.float32),
            deepcopy(properties),
            self.plans,
            self.configuration,
            self.dataset_json,
        )
        if previous is not None:
            data = np.vstack((data, convert_labelmap_to_one_hot(seg[0], self.labels.foreground_labels, data.dtype)))
        return torch.from_numpy(data).to(torch.float32, memory_format=torch.contiguous_format), properties

    def segment(
        self, logits: torch.Tensor, properties: dict, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Segmentation (Z, Y, X) on the image's own grid and, if asked for, the probabilities (K, Z, Y, X)."""
        result = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits.cpu(), self.plans, self.configuration, self.labels, properties, probabilities
        )
        return result if probabilities else (result, None)
