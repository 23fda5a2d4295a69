"""The items of CLAIM, and what a benchmark's records say to each.

Checklist for Artificial Intelligence in Medical Imaging, 2024 update: Tejani et al., Radiology: Artificial Intelligence
6(4):e240300, 2024. The items are told in our own words; the paper has the full ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from nnunet_cardiac.benchmark import tables
from nnunet_cardiac.benchmark.settings import CORRUPTED, TEST_SET
from nnunet_cardiac.environment import folder, read_splits
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.system import versions
from nnunet_cardiac.texts import read_cases

if TYPE_CHECKING:
    from nnunet_cardiac.benchmark.sections import Content

SOURCE = (
    "Checklist for Artificial Intelligence in Medical Imaging (CLAIM), 2024 update, Tejani et al., Radiology: AI 2024"
)
ITEMS = (
    ("Title", "say that it is about AI, and of which kind", "name deep learning for segmentation in the title"),
    ("Abstract", "design, methods, results and conclusions in brief", "the structured abstract"),
    (
        "Introduction",
        "background, and the role that the method is meant for",
        "why these indices are needed, and where",
    ),
    ("Introduction", "aims and hypotheses", "what was expected before the benchmark ran"),
    ("Study design", "prospective or retrospective", "which of both, of each data set"),
    ("Study design", "what kind of goal the study has", "the margin of interest, if superiority was not the question"),
    ("Data", "where the data come from", "institutions, dates, ethics approval, licence and link of the data"),
    ("Data", "who was included and who was not", "the data set's criteria, and your own"),
    ("Data", "preprocessing", "anything that was done to the images before the conversion"),
    ("Data", "parts of the data that were selected", "why these phases and slices"),
    ("Data", "how identities were removed", "what the data set's authors, or you, removed"),
    ("Data", "what was done about missing data", "studies without labels or phases, if there were any"),
    ("Data", "how the images were acquired", "sequence, field strength, resolution, slice thickness and gap"),
    ("Reference standard", "what it is and how it was made", "contouring protocol: papillary muscles, basal slices"),
    ("Reference standard", "why it was chosen", "why contours by hand, or what else there could have been"),
    ("Reference standard", "who made it", "number, training and tools of those who drew the contours"),
    ("Reference standard", "how the test cases were annotated", "whether in the same way, and blinded to predictions"),
    ("Reference standard", "how much annotators differ", "the data set's own numbers, if it has some"),
    ("Partitions", "how the data were divided", "how the folds were drawn, if not by the conversion"),
    ("Partitions", "on which level the parts are disjoint", "sites or scanners that are in several parts"),
    ("Test data", "how many cases were meant to be tested, and why", "whether the number was planned"),
    ("Model", "the model in all detail", "a reference for each contender; the plans hold every size"),
    ("Model", "software", "where the code is kept for good"),
    ("Model", "how the weights were initialised", "data of any pretraining"),
    ("Training", "how it was trained", "why this budget"),
    ("Training", "how the final model was chosen", "what was looked at before the settings were fixed"),
    ("Training", "ensembles", "whether folds are combined for use"),
    ("Evaluation", "metrics", "which is the primary one, and why"),
    ("Evaluation", "statistical significance and uncertainty", "comparisons that were added afterwards"),
    ("Evaluation", "robustness", "other scanners, noise, artefacts, other seeds: what was tried"),
    ("Evaluation", "explainability", "methods and their validation, if there are any"),
    ("Evaluation", "test on internal data", "anything that differs between training and test data"),
    ("Evaluation", "test on external data", "a data set of other sites, or that there was none"),
    ("Evaluation", "registration as a trial", "number and registry, or that it is no trial"),
    ("Results, data", "how many were included and excluded", "a flow diagram from those available to those tested"),
    ("Results, data", "who they were, in each part", "age, sex, diagnoses; a table for each part"),
    ("Results", "performance with its uncertainty", "the text beside the tables"),
    ("Results", "estimates and how precise they are", "what the width of the intervals allows to conclude"),
    ("Results", "where it fails", "what the worst cases have in common"),
    ("Discussion", "limitations", "those of the data, the labels and the design"),
    ("Discussion", "what it means in practice", "intended use, and what is missing until then"),
    ("Other", "protocol and further technical detail", "link to this report and its folder"),
    ("Other", "what is available: software, models, data", "where models and data can be had"),
    ("Other", "funding and the funders' part", "who paid, and for what"),
)
"""Section, what the item asks, and what the author has to write; item 1 is the first."""


def claim_table(content: Content) -> pd.DataFrame:
    """A row for each item: number, section, what is asked, what the records say ("" for nothing), what to write."""
    answers = _of_data(content) | _of_models(content) | _of_evaluation(content)
    return pd.DataFrame(
        [
            {
                "item": i,
                "section": section,
                "asked": asked,
                "from the records": answers.get(i, ""),
                "to write": to_write,
            }
            for i, (section, asked, to_write) in enumerate(ITEMS, 1)
        ]
    )


def markdown(table: pd.DataFrame) -> str:
    """``claim.md``: a box for each item; it is ticked by hand."""
    lines = ["# CLAIM", "", f"The items of the {SOURCE}, in our own words.", ""]
    for section, items in table.groupby("section", sort=False):
        lines += [f"## {section}", ""]
        for item in items.itertuples(index=False):
            number, _, asked, found, to_write = item
            lines += [
                f"- [ ] **{number}. {asked[0].upper()}{asked[1:]}.** {found or 'Open.'}",
                f"  To write: {to_write}.",
            ]
        lines.append("")
    return "\n".join(lines)


def _of_data(content: Content) -> dict[int, str]:
    results = content.results
    cases = pd.concat([c.metrics.drop_duplicates("case") for c in results.contenders]).drop_duplicates("case")
    patients = max(c.patients.nunique() for c in results.contenders)
    folds = results.settings.folds
    made_of = {column: _counts(cases[column]) for column in ("phase", "group", "vendor")}
    told = "; ".join(f"{column}: {counts}" for column, counts in made_of.items() if counts)
    own_test = TEST_SET in results.tests
    first = results.contenders[0].metrics
    absent = int(first[first["seed"] == first["seed"].min()]["state"].eq("absent").sum())
    return {
        7: f"{results.settings.dataset} in nnU-Net's raw format.",
        9: "nnU-Net's preprocessing, by each contender's plans: resampling, normalisation, cropping to nonzero.",
        10: f"Cases by phase: {made_of['phase']}." if made_of["phase"] else "",
        12: "A structure that only one of expert and prediction has counts with a Dice of 0 and the image's diagonal "
            f"as distance; one that neither has is left out (of {results.contenders[0].name}, in {absent} cases and "
            "structures). What could not be done"
            + (f" is named in the report, {len(results.problems)} times." if results.problems else ": nothing."),
        13: f"Vendors: {made_of['vendor']}." if made_of["vendor"] else "",
        14: f"Label maps of {', '.join(results.structures)}.",
        19: f"Cross-validation over the folds of splits_final.json; evaluated: {_listed(folds)}. Every case is "
            "predicted by a network that has not been trained on it.",
        20: _shared_patients(results.settings.dataset, cases),
        21: f"{patients} patients, {len(cases)} cases." + _detectable(content.tests),
        32: f"Held-out cases of the same data set: {patients} patients, {len(cases)} cases."
            + (" Its own test cases (imagesTs), segmented by the ensemble of the folds." if own_test else ""),
        35: f"{patients} patients and {len(cases)} cases were evaluated."
            + (f" Missing: {'; '.join(results.problems[:5])}" if results.problems else " No fold is missing."),
        36: f"Cases, {told}." if told else "",
    }  # fmt: skip


def _shared_patients(dataset: str, cases: pd.DataFrame) -> str:
    """Whether a patient is trained and tested on in one fold, as the data set's own tables tell.

    Args:
        dataset: whose
        cases: that were evaluated, with ``patient`` and ``fold``, which tell less, where the data set is not at hand
    """
    try:
        patients = {row["case"]: row.get("patient") for row in read_cases(folder("nnUNet_raw") / dataset)}
        splits = read_splits(folder("nnUNet_preprocessed") / dataset / "splits_final.json")
    except UserError:
        if (cases["patient"] == "").any():
            return "Cases: patients are not known."
        shared = (cases.groupby("patient")["fold"].nunique() > 1).any()
        return (
            "Patients ARE SHARED by folds: see to the splits."
            if shared
            else "Patients: none of those evaluated is in two folds."
        )
    parts = [[{patients.get(case) for case in split[part]} for part in ("train", "val")] for split in splits]
    if any(None in part or "" in part for fold in parts for part in fold):
        return "Cases: patients are not known."
    if any(train & val for train, val in parts):
        return "Patients ARE SHARED by training and held-out cases: see to the splits."
    return "Patients: none is in the training and the held-out cases of one fold."


def _detectable(tests: pd.DataFrame | None) -> str:
    if tests is None:
        return ""
    dice = tests[(tests["metric"] == "dice") & (tests["structure"] == "mean")]["detectable"].dropna()
    if dice.empty:
        return ""
    return (
        f" Differences of mean Dice of {dice.min():.3f} to {dice.max():.3f}, depending on the contender, can be "
        "shown with so many patients (power 80 %, at 5 % over all planned comparisons)."
    )


def _of_models(content: Content) -> dict[int, str]:
    results = content.results
    settings = results.settings
    costs = [cost for c in results.contenders for cost in c.trainings.values()]
    models = "; ".join(
        f"{c.name}: {c.contender.description or c.model.name} ({c.model.plans}, {c.model.configuration}"
        + (f", {c.cost['parameters'] / 1e6:.2f} million parameters)" if c.cost["parameters"] > 0 else ")")
        for c in results.contenders
    )
    trainers = "; ".join(dict.fromkeys(f"{c.name}: {c.contender.trainer}" for c in results.contenders))
    length = f"{settings.budget} optimiser steps each" if settings.budget else "each recipe's own length"
    spent = tables.expense(results)
    ensembles = [test for test in results.tests if test == TEST_SET or test.startswith("Dataset")]
    searched = (
        f" Before each training, {len(settings.lr_factors)} rates were tried in {settings.search_steps} steps on four "
        "fifths of its patients, and the best on the other fifth was taken."
        if settings.lr_factors
        else ""
    )
    return {
        6: f"Comparison of {len(results.contenders) - 1} contenders with {content.baseline_name}, by cross-validation.",
        22: f"{models}.",
        23: ", ".join(f"{name} {version}" for name, version in versions().items())
            + " (the report's; the trainings' are under How this was obtained).",
        24: f"Random; seed {_listed({cost['seed'] for cost in costs}) or 'not recorded'}.",
        25: f"Recipes, {trainers}. Length: {length}. {spent.trainings} trainings, {spent.hours:.1f} hours, on "
            f"{_listed({cost['hardware'] for cost in costs}) or 'hardware that was not recorded'}; batches of "
            f"{_listed({cost['batch_size'] for cost in costs if 'batch_size' in cost}) or 'the plans'}; initial "
            "learning rates of "
            f"{_listed({format(cost['initial_lr'], 'g') for cost in costs if 'initial_lr' in cost}) or 'the recipes'}."
            f"{searched}",
        26: "The weights with which each recipe ends. A recipe that keeps its best epoch (DADU's, HALSR-Net's) chooses "
            "it on a fifth of the fold's training patients, which it does not train on, unless the report's first "
            "lines say otherwise.",
        27: "Held-out cases: none, each is predicted by the network of its fold"
            f"{', of each seed apart' * (len(settings.seeds) > 1)}, with mirroring."
            + (" Other test cases: the mean of the folds' probabilities." if ensembles else ""),
        43: "nnunet-cardiac is free software (Apache-2.0).",
    }  # fmt: skip


def _of_evaluation(content: Content) -> dict[int, str]:
    results = content.results
    dice = content.full[(content.full["metric"] == "dice") & (content.full["structure"] == "mean")]
    complete = dice[dice["patients"] == dice["patients"].max()]  # others' means are of other patients
    best = complete.loc[complete["mean"].idxmax()]
    made_of = [
        what for what in ("phase", "group", "vendor") if any((c.metrics[what] != "").any() for c in results.contenders)
    ]
    measured = any(c.measurement for c in results.contenders)
    means = tables.case_table(results)
    worst = ", ".join(
        f"{case} ({value})" for case, value in zip(means["case"][:3], means["Dice, mean"][:3], strict=True)
    )
    folds, seeds = len(results.settings.folds), len(results.settings.seeds)
    external = [test for test in results.tests if test.startswith("Dataset")]
    interval = f"{best['mean']:.3f} (95 % interval {best['ci_lower']:.3f} to {best['ci_upper']:.3f})"
    return {
        28: "Dice, Jaccard, HD, HD95 and ASSD in mm, precision, recall, F1, accuracy, volume error, in 3D; "
            f"{'clinical indices with Bland-Altman limits; ' * measured}implausible anatomy.",
        29: "The patient is the unit. 95 % intervals: percentile bootstrap over patients, 2,000 draws."
            + (f" Tests against {content.baseline_name}: Wilcoxon's signed-rank test of patients' means, two-sided, "
               f"Holm-corrected over the planned comparisons; equivalence within ±{content.margin} Dice by two "
               "one-sided t tests." if content.tests is not None else " Nothing was tested."),
        30: f"{seeds} seed{'s' * (seeds != 1)}."
            + f" Results by {' and '.join(made_of)} are in the report." * bool(made_of)
            + " So are results on corrupted images." * (CORRUPTED in results.tests),
        33: f"Other data sets, segmented by the ensemble of the folds: {', '.join(external)}." if external else "",
        37: f"Highest mean Dice of those with all {best['patients']} patients: {best['contender']}, {interval}; all "
            "others in the summary.",
        38: "Every metric's mean, standard deviation and interval are in metrics_full.csv, every comparison in "
            "tests_full.csv.",
        39: f"Lowest mean Dice of all contenders: {worst}. Pictures of best, median and worst cases, and counts of "
            "implausible anatomy, are in the report.",
        40: f"{folds} fold{'s' * (folds != 1)}, {seeds} seed{'s' * (seeds != 1)}"
            + ("; networks were shrunk" if results.settings.size else "")
            + ("; not the recipes at full length" if results.settings.budget or results.found else "") + ".",
        42: "The benchmark's folder holds settings, logs and a record of every job.",
    }  # fmt: skip


def _counts(column: pd.Series) -> str:
    return ", ".join(f"{value} {n}" for value, n in column[column != ""].value_counts(sort=False).items())


def _listed(values) -> str:
    return ", ".join(map(str, sorted(values)))
