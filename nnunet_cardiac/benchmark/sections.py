"""The report's sections, in the page's order: each a function that makes one of what a benchmark has finished.

To add a section, write such a function and put it into ``SECTIONS``: the page, its navigation, and the tables as CSV,
Markdown and LaTeX follow.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from nnunet_cardiac.architectures import published_for
from nnunet_cardiac.benchmark import claim, protocol_tables, tables
from nnunet_cardiac.benchmark.figures import corruption_figure, dice_against_cost, learning_curves
from nnunet_cardiac.benchmark.folder import BenchmarkFolder
from nnunet_cardiac.benchmark.pictures import SHOWN, CasePicture, draw_cases
from nnunet_cardiac.benchmark.results import ContenderResults, Results
from nnunet_cardiac.benchmark.settings import CORRUPTED, POSTPROCESSED, SNAPSHOTS, TEST_SET
from nnunet_cardiac.evaluation.figures import MOST_IN_A_ROW, bland_altman, distributions
from nnunet_cardiac.pages import data_uri

FEW = 3
"""Contenders, at most, whose own pictures stand open in the page."""
MOST_IN_SVG = 10
"""Contenders, at most, whose dots are drawn as vectors: of more, pixels take less room."""
LISTED_CASES = 50
"""Rows of the table of all cases that a page has without JavaScript."""

LEARNED = 0.5
"""Dice from which on a network has found a structure, however badly."""
MOST_NAMED = 4
"""At most, of structures that have not been found."""

OF_FIRST_SEED = "With several seeds, of the networks of the first one."
AGREEMENT = (
    "Bland-Altman: bias and 95 % limits of agreement, measured minus expert; Pearson's correlation. Where it says so, "
    f"the index of some patients cannot be computed, and is in no limits. {OF_FIRST_SEED}"
)


@dataclass(frozen=True)
class Text:
    """A paragraph; ``small`` for what explains."""

    text: str
    small: bool = True
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """A table, which is also written beside the page as ``NAME.csv``.

    Args:
        name: of the file
        title: above it, in ``tables.md`` and ``tables.tex``
        data: nothing is shown of an empty one
        note: below it
        headed: whether the page shows the title
        rows: that the page has without JavaScript; None for all
    """

    name: str
    title: str
    data: pd.DataFrame
    note: str = ""
    headed: bool = True
    rows: int | None = None
    kind: ClassVar[str] = "table"

    @property
    def html(self) -> Markup:
        """As the page has it."""
        return Markup(
            self.data.iloc[: self.rows].to_html(index=False, border=0, na_rep="-", escape=True, justify="left")
        )


@dataclass(frozen=True)
class Picture:
    """A figure, as a data URI, with what it shows in words."""

    image: str
    words: str
    caption: str = ""
    title: str = ""
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Row:
    """Parts that stand beside each other where there is room."""

    parts: list
    kind: ClassVar[str] = "row"


@dataclass(frozen=True)
class Folded:
    """Parts that are shown when they are asked for."""

    title: str
    parts: list
    kind: ClassVar[str] = "folded"


@dataclass(frozen=True)
class Special:
    """What the template alone knows to draw: ``name`` is the macro's, ``data`` its argument."""

    name: str
    data: object = None
    kind: ClassVar[str] = "special"


@dataclass
class Section:
    """A heading of the page, its ``name`` in addresses, and its parts."""

    name: str
    title: str
    parts: list = field(default_factory=list)

    def tables(self) -> list[Table]:
        """All that it has."""
        return list(_tables(self.parts))


def _tables(parts: Iterable) -> Iterable[Table]:
    for part in parts:
        if isinstance(part, Table):
            yield part
        elif isinstance(part, Row | Folded):
            yield from _tables(part.parts)


@dataclass
class Content:
    """All that the sections are made of.

    Args:
        results: of the benchmark
        benchmark: its folder
        baseline_name: contender that the others are tested against
        margin: difference of Dice that means nothing
        drawn: is called for each figure that is drawn
    """

    results: Results
    benchmark: BenchmarkFolder
    baseline_name: str
    margin: float
    drawn: Callable[[], object] = lambda: None

    @cached_property
    def full(self) -> pd.DataFrame:
        """See ``tables.full_table``."""
        return tables.full_table(self.results)

    @property
    def baseline(self) -> ContenderResults | None:
        """None where it has no results."""
        return next((c for c in self.results.contenders if c.name == self.baseline_name), None)

    @cached_property
    def tests(self) -> pd.DataFrame | None:
        """See ``tables.test_table``; None where nothing can be tested."""
        if self.baseline is None or len(self.results.contenders) < 2:
            return None
        return tables.test_table(self.results, self.baseline, self.margin)

    @cached_property
    def pictures(self) -> tuple[list[CasePicture], list[str]]:
        """See ``draw_cases``."""
        return draw_cases(self.results, self.benchmark)

    def few(self) -> bool:
        """Whether the contenders are so few that each may have pictures of its own in sight."""
        return len(self.results.contenders) <= FEW

    def draw(self, figure: Figure, words: str, caption: str = "", title: str = "", svg: bool = True) -> Picture:
        """A figure as a part of the page."""
        self.drawn()
        return Picture(_embed(figure, svg), words, caption, title)


def _embed(figure: Figure, svg: bool) -> str:
    file = io.BytesIO()
    if svg:
        figure.savefig(file, format="svg", dpi=120, metadata={"Date": None})
    else:
        figure.savefig(file, format="png", dpi=120)
    return data_uri(file.getvalue(), "svg+xml" if svg else "png")


def summary(content: Content) -> Section:
    """The main table, and who is in it."""
    table = tables.summary_table(content.results, content.full, content.tests, content.baseline_name)
    baseline = content.baseline_name
    return Section("summary", "Summary", [
        *_not_learned(content.results),
        Table("summary", "Summary", table, headed=False, note=(
            "Mean ± standard deviation over cases. The patient is the unit: the interval is a bootstrap of the "
            f"mean Dice over patients, each with all cases, and the difference to {baseline} is tested by "
            "Wilcoxon's signed-rank test of patients' means, two-sided, Holm-corrected over the comparisons that were "
            "planned. The effect size is the matched-pairs rank-biserial correlation: +1 where the contender is better "
            f"in every patient, -1 where {baseline} is. Rows of different patients cannot be compared with each other, "
            "only their differences.")),
        Table("phases", "By phase", tables.phase_table(content.results), note=(
            "Means over cases (as DADU's Tables 1 and 3). HD is the largest distance between the surfaces, HD95 "
            "the larger of both directions' 95th percentiles.")),
        Special("contenders", content.results),
    ])  # fmt: skip


def _not_learned(results: Results) -> list[Text]:
    """What stands before all tables where a network has not learned what it is compared by."""
    poor = [
        f"{c.name}, {structure} ({mean:.2f})"
        for c in results.contenders
        for structure in results.structures
        if (mean := c.by_case("dice", structure).mean()) < LEARNED
    ]
    if not poor:
        return []
    more = f" and {len(poor) - MOST_NAMED} more" if len(poor) > MOST_NAMED else ""
    return [Text(
        f"Mean Dice below {LEARNED}: {'; '.join(poor[:MOST_NAMED])}{more}. What has not learned a structure cannot be "
        "ranked by it: differences, tests and ranks tell nothing there of which network is better.",
        small=False,
    )]  # fmt: skip


def structures(content: Content) -> Section:
    """Every metric of every structure, tests, subsets, crops."""
    results = content.results
    figure = content.draw(
        distributions({c.name: c.metrics for c in results.contenders}, ("dice", "hausdorff95_mm")),
        "Dice and HD95 by structure and contender",
        "One dot a case and seed, of many 150 from the lowest to the highest; the box holds the middle half of them.",
        svg=len(results.contenders) <= MOST_IN_SVG,
    )
    tests = Table(
        "tests", "Paired tests against the baseline",
        pd.DataFrame() if content.tests is None else tables.readable_tests(content.tests), note=(
            f"Against {content.baseline_name}; the correction is over the comparisons that were planned, those that "
            "are not finished included, for each metric and structure on its own. Effect sizes are +1 where the "
            "contender's value is the larger in every patient, which is better of Dice and worse of distances. A "
            "structure that the expert has not, and one of both has found, counts for the other as rightly absent. "
            '"p, equivalent" is small where the difference of Dice is within '
            f'±{content.margin} (two one-sided t tests). "Detectable" is the smallest difference that a paired t '
            "test with so many patients shows with a power of 80 % at 5 % over these comparisons (Holm's first step): "
            "smaller ones may exist without being seen."),
    )  # fmt: skip
    subset_table = Table("subsets", "Phases and groups", tables.subset_table(results))
    crop = Table("crop", "What the crop shows of the heart", tables.crop_table(results), note=(
        "Cascades whose last stage segments a crop. The stage before finds a box; its IoU with the box of the expert's "
        "labels is a mean over the slices that have labels, and 0 where no box was found. An image without a box is "
        "segmented whole, so all of it is inside. The last stage cannot find a pixel outside the crop. "
        + OF_FIRST_SEED))  # fmt: skip
    wide = len(results.contenders) > MOST_IN_A_ROW
    return Section("structures", "Structures", [
        figure if wide else Row([figure, tests]),
        Table("metrics", "Distances and overlap by structure", tables.distance_table(results, content.full), note=(
            "3D, in mm. A structure that only the expert has (missed) or only the prediction (spurious) counts "
            "with a Dice of 0 and the image's diagonal as distance; one that neither has (absent) is left out. "
            "Accuracy counts all voxels of the image; of voxels, F1 is Dice. Volume error is prediction minus "
            "expert.")),
        *([Row([tests, subset_table]), crop] if wide else [Row([subset_table, crop])]),
    ])  # fmt: skip


def chance(content: Content) -> Section:
    """How much of the order is owed to who the patients are, to seeds and folds, and to learning rates."""
    results = content.results
    return Section("chance", "What is chance", [
        Row([
            Table("ranks", "Ranks, and how stable they are", tables.rank_table(results), note=(
                "Ranks of means over the patients whom all have segmented; which rank a contender keeps in 95 % of "
                "1,000 bootstrap draws of these patients, in how many it is first, and how much the whole order of a "
                "draw resembles this one (Kendall's tau, mean), as challengeR does (Wiesenfarth et al., Scientific "
                "Reports 11, 2021).")),
            Table("variance", "What the scatter is of", tables.variance_table(results), note=(
                "Standard deviations of patients' mean Dice, and shares of the variance, by the method of moments: of "
                "folds, of patients within a fold, of trainings that differ in their seed alone, and the rest, from "
                "the patients whom all seeds have segmented. The last column is by how much two means of so many "
                "folds, seeds and patients differ if nothing but the seed does (one standard deviation, with what "
                "seeds do to single patients): a difference that is no larger is none of architectures.")),
        ]),
        Table("search", "Search for the learning rates", tables.search_table(results), note=(
            f"Before every training, short runs of {results.settings.search_steps} steps on four fifths of the fold's "
            "training patients, validated on the other fifth; the same multiples of each recipe's own rate for all. At "
            "the edge: a rate beyond those that were tried might be better.")),
    ])  # fmt: skip


def matched(content: Content) -> Section:
    """Everyone against a baseline that costs the same."""
    table = protocol_tables.matched_table(content.results, content.margin)
    return Section("matched", "Baselines of matched cost", [
        Table("matched", "Against a baseline of the same cost", table, headed=False, note=(
            "nnU-Net's residual encoder U-Net at the width at which it costs what the contender costs, by "
            f"{content.results.settings.match}, all stages together; the same patch and batch, nnU-Net's recipe. The "
            "correction is over the contenders; see the paired tests for the columns.")),
    ] if len(table) else [])  # fmt: skip


def beyond(content: Content) -> Section:
    """Other test sets, worse images, postprocessing, earlier moments of the training."""
    results = content.results
    parts: list = []
    for where, tested in results.tests.items():
        if where in (CORRUPTED, POSTPROCESSED, SNAPSHOTS):
            continue
        title = "The data set's own test cases" if where == TEST_SET else f"Another data set: {where}"
        own = Content(tested, content.benchmark, content.baseline_name, content.margin)
        parts += [
            Table(f"{where}_summary", title, tables.summary_table(tested, own.full, own.tests, own.baseline_name),
                  note="Segmented by the ensemble of the folds. Labels of another data set are matched by name."),
            Table(f"{where}_subsets", f"{title}: phases, groups and vendors", tables.subset_table(tested)),
            Table(f"{where}_agreement", f"{title}: clinical indices", tables.agreement_table(tested), note=AGREEMENT),
        ]  # fmt: skip
    corruptions = protocol_tables.corruption_table(results)
    if len(corruptions):
        parts += [
            content.draw(
                corruption_figure(results), "Dice against severity",
                "Mean Dice on images made worse in steps, with its interval over patients (TorchIO's transforms)."),
            Table("corruptions", "Images made worse", corruptions),
        ]  # fmt: skip
    parts += [
        Table("postprocessing", "nnU-Net's postprocessing", protocol_tables.postprocessing_table(results), note=(
            "Largest components are kept where that helped on the held-out cases of the other folds, for every one "
            "alike, both columns of the seeds that were tested. Everything else in this report is as the networks left "
            "it.")),
        Table("snapshots", "Earlier moments of the training", protocol_tables.snapshot_table(results), note=(
            "Mean Dice of the held-out cases after each share of the training (as DADU's Table 2); of a cascade, after "
            "that share of every stage's. Earlier networks are as they were at that moment; those of 100 % are what "
            "the recipe ends with, of some the best epoch. Shares are of the length that was planned: of a recipe that "
            "stops early, later ones are its last network.")),
    ]  # fmt: skip
    return Section("beyond", "Beyond the held-out cases", [p for p in parts if not isinstance(p, Table) or len(p.data)])


def cases(content: Content) -> Section:
    """The same cases for all contenders, a table of all cases, and a viewer of some."""
    pictures, problems = content.pictures
    table = tables.case_table(content.results)
    shown = [picture for picture in pictures if picture.why in SHOWN]
    more = f" {len(problems)} could not be drawn; the first reason: {problems[0]}" if problems else ""
    return Section("cases", "Cases", [
        Special("compared", (shown, content.results)),
        Table("cases", "All cases", table, rows=LISTED_CASES, note=(
            f"{len(table)} cases, the hardest first; mean Dice and HD95 (mm) of each contender. {len(pictures)} "
            "of them can be opened, those with a button: the best, the median, then by turns the worst and those "
            f"about which the contenders disagree most, as many as fit into the page.{more} Without JavaScript "
            f"the first {LISTED_CASES} are listed, and none can be opened; all are in cases.csv.")),
    ])  # fmt: skip


def cost(content: Content) -> Section:
    """Time, memory, energy, size."""
    results = content.results
    spent = tables.expense(results)
    hours = "GPU hours" if spent.devices == ["GPU"] else "hours"
    energy = "" if pd.isna(spent.energy_kWh) else f" and {_amount(spent.energy_kWh)} kWh of the GPUs' energy"
    search = f" Searches for learning rates took {_amount(spent.search_hours)} more." if spent.search_hours else ""
    trainings = f"{spent.trainings} training{'s' * (spent.trainings != 1)}"
    total = (
        f"All trainings together took {_amount(spent.hours)} {hours}{energy}, without their final validations: "
        f"{trainings}, each counted once, though several contenders may share a stage.{search}"
        if spent.trainings
        else "What the trainings took was not recorded."
    )
    return Section("cost", "Cost", [
        Text(total, small=False),
        Table("cost", "Cost", tables.cost_table(results), headed=False, note=(
            "All stages of a cascade together. Training is the time of one fold of each stage, and of all folds "
            "that were trained, with online validation and without the final one. Energy is what NVIDIA's driver "
            "counts for the whole GPU, where it was recorded. Peak memory is that of the "
            f"{' or '.join(spent.devices) or 'device'} in training. FLOPs are those of one slice in one pass, of "
            "convolutions and matrix products; a multiplication and an addition count as two. Prediction is "
            "timed from reading to writing, with mirroring, for one fold.")),
        Table("plans", "What was trained", tables.plans_table(results), note=(
            "Sizes as the trainings had them. Rates that differ between folds have rows of their own.")),
        Row([
            content.draw(dice_against_cost(results), "Mean Dice against parameters and hours of training",
                         "Mean Dice against parameters (as in CroCNet's Fig. 5) and against the hours that all "
                         "trainings of a contender took; where other work ran beside them, more than they need."),
            content.draw(learning_curves(results), "Online Dice during training",
                         "nnU-Net's online Dice on patches of the held-out cases, thin lines for folds of few "
                         "contenders. It is optimistic: only the tables count."),
        ]),
    ])  # fmt: skip


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def anatomy(content: Content) -> Section:
    """What no heart looks like."""
    return Section("anatomy", "Implausible anatomy", [
        Table("anatomy", "Implausible anatomy", tables.anatomy_table(content.results), headed=False, note=(
            "Number of slices, after Painchaud et al., IEEE TMI 39(11), 2020, with holes, more than one "
            "component, a left-ventricular cavity that touches the background or the right ventricle, or a gap "
            f"between myocardium and cavity. The experts' segmentations are counted in the same way. {OF_FIRST_SEED}")),
    ])  # fmt: skip


def indices(content: Content) -> Section:
    """Volumes, ejection fractions and mass, beside what repeated scans and other readers differ by."""
    results = content.results
    few, agreement = content.few(), tables.agreement_table(results)
    plots = [
        content.draw(
            bland_altman(c.measurement.pairs(), c.measurement.agreement().T.to_dict()),
            f"Bland-Altman plots of {c.name}", title=c.name, svg=few,
        )
        for c in results.contenders
        if c.measurement
    ]  # fmt: skip
    return Section("indices", "Clinical indices", [
        Table("agreement", "Clinical indices against the experts'", agreement, headed=False, note=AGREEMENT),
        Table("repeatability", "Beside repeated scans and other readers", tables.repeatability_table(results), note=(
            "The first rows are from the literature, not measured here; ranges are over the study's groups or "
            "readers. Below them is how far each contender scatters around the experts: the standard deviation "
            "of the difference, in percent of the experts' mean and in the index's unit (of an ejection "
            "fraction, percentage points). Studies define their coefficients in different ways, and other "
            "patients were scanned: these are orders of magnitude.")),
        *(plots if few else [Folded(f"Bland-Altman plots of {len(plots)} contenders", plots)] if plots else []),
    ])  # fmt: skip


def published(content: Content) -> Section:
    """What the papers say of their own, and what was measured here."""
    names = {n for c in content.results.contenders for n in (c.contender.planner, c.contender.trainer)}
    return Section("published", "Published figures", [
        Table(f"published_{p.key}", f"{p.paper}: {p.table}", tables.paper_table(content.results, p), note=(
            "The paper's own figures, not measured here, but for the columns that end in 'here'. "
            f"Data: {p.data}. {p.remark}"))
        for p in published_for(names)
    ])  # fmt: skip


def checklist(content: Content) -> Section:
    """CLAIM, as far as the records answer it."""
    table = claim.claim_table(content)
    n = int((table["from the records"] != "").sum())
    return Section("claim", "CLAIM checklist", [
        Text(f"The items of the {claim.SOURCE}, in our own words. The records answer {n} of {len(table)}, some in "
             "part; the last column is what is left to write. Also in claim.md."),
        Folded("All items", [Table("claim", "CLAIM checklist", table, headed=False)]),
    ])  # fmt: skip


def how(content: Content) -> Section:
    """Command, hardware, versions."""
    return Section("how", "How this was obtained", [Special("circumstances", content.results)])


SECTIONS: tuple[Callable[[Content], Section], ...] = (
    summary, structures, chance, matched, beyond, cases, cost, anatomy, indices, published, checklist, how,
)  # fmt: skip
