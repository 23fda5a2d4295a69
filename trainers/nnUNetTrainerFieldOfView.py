from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_cardiac.training.augmentation import field_of_view_varied


class nnUNetTrainerFieldOfView(nnUNetTrainer):
    """nnU-Net's recipe, for images that show more or less around the heart than those of the training.

    Half of the samples are standardised as if their image ended at a random window, see ``FieldOfView``.
    """

    @staticmethod
    def get_training_transforms(*args, **kwargs) -> BasicTransform:
        return field_of_view_varied(nnUNetTrainer.get_training_transforms(*args, **kwargs), probability=0.5)
