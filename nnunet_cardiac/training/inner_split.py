"""A split of training cases into those that are trained on and those that choose: a rate, an epoch."""

from collections.abc import Sequence

from sklearn.model_selection import GroupKFold

from nnunet_cardiac.environment import folder
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.texts import meant, read_rows

PARTS = 5
"""Of which one chooses."""


def inner_split(dataset: str, cases: Sequence[str]) -> tuple[list[str], list[str]]:
    """Four fifths of the patients and one, always the same; a case of no known patient is a patient.

    Args:
        dataset: ``DatasetNNN_NAME``, whose ``cases.csv`` tells the patients
        cases: of its training cases

    Raises:
        UserError: they are of one patient
    """
    file = folder("nnUNet_raw") / dataset / "cases.csv"
    rows = read_rows(file) if file.is_file() else []
    known = {meant(row.get("case", "")): row.get("patient") for row in rows}
    patients = [known.get(case) or case for case in cases]
    if len(set(patients)) < 2:
        raise UserError(f"{dataset} has a fold with one training patient: a choice inside the training part needs two.")
    train, val = next(GroupKFold(min(PARTS, len(set(patients)))).split(cases, groups=patients))
    return [cases[i] for i in train], [cases[i] for i in val]
