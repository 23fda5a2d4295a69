"""The page of a patient's cine."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.path import Path as Polygon
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from nnunet_cardiac.cine import report
from nnunet_cardiac.cine.analysis import Analysis, Flag
from nnunet_cardiac.cine.cine import Cine
from nnunet_cardiac.cine.reference_ranges import Range
from nnunet_cardiac.cine.report import as_seen, contours, number, shown_box, viewer_data, write_report
from nnunet_cardiac.dicom import Patient
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.indices import INDICES, cine_indices
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.phantom.short_axis import ShortAxisPhantom

BASAL = Flag("The base may be missing", "The last slice shows 14 cm² of cavity.", ("LV_EDV_mL", "LV_EF_percent"))
UNSURE = Flag("The network is unsure", "Mirrored copies differ.", phases=(2, 3))
CHROMIUM = shutil.which("chromium")


def analysis_of(voxels, labels, names=("RV", "MYO", "LV"), affine=(1.6, 1.6, 10.0), times=True, **facts) -> Analysis:
    """What a cine with these labels (1 RV, 2 MYO, 3 LV) comes to."""
    structures = Structures.named({name: {"RV": 1, "MYO": 2, "LV": 3}[name] for name in names})
    moments = np.arange(len(voxels)) * 40.0 if times else None
    cine = Cine(voxels, np.diag((*affine, 1.0)), moments, **{"origin": "phantom", **facts})
    volumes = pd.DataFrame({"phase": range(len(voxels)), "time_ms": np.nan if moments is None else moments})
    for name in names:
        volume = structures.mask(labels, name).sum((1, 2, 3)) * np.prod(cine.spacing) / 1000
        volumes[f"{name}_mL"] = volumes[f"{name}_smooth_mL"] = volume
    analysis = Analysis(cine, labels, structures, volumes, 0, len(voxels) // 2, {}, model={"Name": "a model"})
    ed, es = analysis.segmentation(analysis.ed), analysis.segmentation(analysis.es)
    body_surface = cine.patient.body_surface
    return replace(analysis, indices=cine_indices(ed, es, structures, cine.heart_rate, body_surface))


@pytest.fixture(scope="module")
def frames() -> tuple[np.ndarray, np.ndarray]:
    """Voxels and labels of six phases."""
    phantom = ShortAxisPhantom("NOR", 3, shape=(64, 56), spacing=4.2, n_slices=4)
    drawn = [phantom.frame(float(contraction)) for contraction in (0, 0.4, 0.8, 1, 0.6, 0.2)]
    return np.stack([image for image, _ in drawn]), np.stack([labels for _, labels in drawn])


@pytest.fixture(scope="module")
def analysis(frames) -> Analysis:
    """All that an analysis can have."""
    segments = np.linspace(6, 12, 16)
    segments[14] = np.nan
    facts = {"heart_rate": 60.0, "patient": Patient("F", 54, 1.68, 70), "remarks": ("A series was left out.",)}
    return replace(
        analysis_of(*frames, affine=(4.2, 4.2, 10.0), **facts),
        wall_thickness=segments, thickening=segments * 5 - 40, flags=(BASAL, UNSURE),
    )  # fmt: skip


def page_of(analysis: Analysis, folder: Path, **options) -> str:
    write_report(analysis, folder / "report.html", **options)
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text("utf-8")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="cine-data">(.*?)</script>', page, re.DOTALL)[1])


def words(page: str) -> str:
    """What a reader sees, without the player's data and code."""
    page = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else(analysis, tmp_path):
    page = page_of(analysis, tmp_path)
    for tag, attributes in Elements(page).found:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/webp;base64,")), (tag, attributes)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    assert "fetch(" not in page and "XMLHttpRequest" not in page


def test_it_says_what_was_found_and_how(analysis, tmp_path):
    page = page_of(analysis, tmp_path)
    text = words(page)
    assert text.count("For research only. Not for clinical use.") == 2
    for expected in ("phantom", "Female, 54 years, 1.68 m, 70 kg, body surface 1.81 m²", "A series was left out."):
        assert expected in text
    assert f"LV end-diastolic volume {analysis.indices['LV_EDV_mL']:.0f} mL" in text
    assert f"{analysis.indices['LV_EDV_index_mL_m2']:.0f} mL/m²" in text
    for name in analysis.indices:
        assert INDICES[name].definition in text
    headings = ["Left ventricle", "Quality", "Images and volumes", "Indices", "Segments", "How it was obtained"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


def test_flagged_numbers_say_why(analysis, tmp_path):
    page = page_of(analysis, tmp_path)
    assert page.count('href="#flag-1">Check: The base may be missing') == 2
    assert words(page).count("Check: flag 1") == 2 + 2  # in the table; on paper, for the large numbers too
    assert 'id="flag-1"' in page and 'href="#flag-2"' not in page
    assert "phases 3, 4" in words(page)
    assert [phase for phase, _ in data_of(page)["flagged"]] == [2, 3]
    clean = tmp_path / "clean"
    clean.mkdir()
    text = words(page_of(replace(analysis, flags=()), clean))
    assert "No flags were raised." in text and "Check:" not in text


def test_a_number_outside_the_reference_range_is_told_in_words(analysis, tmp_path):
    analysis = replace(analysis, indices=analysis.indices | {"LV_EF_percent": 41.2, "LV_mass_g": 400.0})
    ranges = {
        "LV_EF_percent": Range(57.0, 81.0, "Some <Study>"),
        "LV_mass_g": Range(50.0, 100.0, "Some <Study>"),
        "LV_SV_mL": Range(1.0, 1000.0, "Another"),
    }
    page = page_of(analysis, tmp_path, ranges=ranges)
    text = words(page)
    assert "41 % below the range" in text and "57 to 81" in text
    assert "400 g above the range" in text and "50 to 100" in text
    assert "1 to 1000" in text and text.count("the range") == 2
    assert page.count("Some &lt;Study&gt;") == 1


def test_hostile_words_stay_words(analysis, tmp_path):
    evil = "</script><script>alert('1')</script>\"'><img src=x onerror=alert(1)>"
    hostile = replace(
        analysis, cine=replace(analysis.cine, origin=evil, remarks=(evil,)), flags=(Flag(evil, evil, (evil,), (1,)),),
        model={evil: evil},
    )  # fmt: skip
    page = page_of(hostile, tmp_path)
    before, after = Elements(page_of_nothing_evil(analysis, tmp_path)), Elements(page)
    for tag in ("script", "img"):
        assert [e for e, _ in after.found].count(tag) == [e for e, _ in before.found].count(tag)
    assert not any(name.startswith("on") for _, attributes in after.found for name in attributes)
    assert data_of(page)["flagged"] == [[1, evil]]
    assert "script-src 'sha256-" in page


def page_of_nothing_evil(analysis: Analysis, folder: Path) -> str:
    (folder / "report.html").unlink()
    return page_of(analysis, folder)


def test_what_is_not_known_is_a_dash(analysis, tmp_path):
    unknown = replace(
        analysis, indices=analysis.indices | {"LV_EF_percent": np.nan, "LV_CO_L_min": np.nan}, thickening=None,
        volumes=analysis.volumes.assign(LV_mL=np.nan), wall_thickness=np.full(16, np.nan),
    )  # fmt: skip
    page = page_of(unknown, tmp_path)
    text = words(page)
    assert "EF – " in text and "LV cardiac output –" in text and "nan" not in text.lower()
    assert page.count("<figure>") == 1 and text.count("not covered") >= 16
    assert data_of(page)["curves"][0]["mL"] == [None] * 6


@pytest.mark.parametrize(
    "names, missing",
    [(("MYO", "LV"), "Right ventricle"), (("RV", "LV"), "LV mass"), (("LV",), "epicardium"), (("RV",), "Left")],
)
def test_structures_that_are_not_labelled_are_left_out(frames, tmp_path, names, missing):
    page = page_of(analysis_of(*frames, names=names), tmp_path)
    assert missing not in words(page)
    data = data_of(page)
    assert len(data["structures"]) == len(data["curves"]) == len(data["contours"][1][0]) == len(names)


def test_one_slice_one_phase_and_unknown_times(frames, tmp_path):
    voxels, labels = (array[:, 2:3] for array in frames)
    data = data_of(page_of(analysis_of(voxels, labels, times=False), tmp_path))
    assert data["slices"] == 1 and data["slice"] == 0 and data["times"] is None and data["cycle"] == 1000
    (tmp_path / "report.html").unlink()
    page = page_of(analysis_of(voxels[:1], labels[:1]), tmp_path)
    assert data_of(page)["phases"] == 1 and re.search(r'id="play" disabled', page)


def test_an_empty_segmentation_shows_whole_images(frames, tmp_path):
    voxels, labels = frames
    data = data_of(page_of(analysis_of(voxels * 0, labels * 0), tmp_path))
    assert (data["height"], data["width"]) == voxels.shape[2:]
    assert data["slice"] == 2 and all(not polygons for polygons in data["contours"][0][0])


def test_a_large_study_is_small_enough(tmp_path, monkeypatch):
    """A third of 12 slices of 25 phases, in a third of the bytes: quality is given up for size."""
    monkeypatch.setattr(report, "MOST_IMAGE_BYTES", report.MOST_IMAGE_BYTES / 3)
    rng = np.random.default_rng(0)
    still = gaussian_filter(rng.normal(size=(1, 1, 256, 256)), (0, 0, 2, 2))
    voxels = np.float32(still / still.std()) + rng.normal(0, 0.15, (25, 4, 256, 256)).astype(np.float32)
    y, x = np.mgrid[:256, :256]
    places = [(50 + 14 * z, 206 - 14 * z) for z in range(0, 12, 3)]  # from corner to corner: nothing is cropped
    hearts = np.stack([np.digitize(-np.hypot(y - cy, x - cx), (-50, -40, -30)) for cy, cx in places]).astype(np.uint8)
    labels = np.broadcast_to(hearts, voxels.shape)
    write_report(analysis_of(voxels, labels), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 8e6 / 3


def filled(polygons: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
    """By the even-odd rule, as a canvas does it; a pixel counts if its centre is inside."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        points = np.cumsum(np.reshape(polygon, (-1, 2)), 0) / report.STEPS_PER_PIXEL
        inside ^= Polygon(points).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(shape)
    return inside


def test_contours_give_the_labels_again(analysis):
    data, _ = viewer_data(analysis)
    _, labels, spacing = as_seen(analysis)
    rows, columns = shown_box(labels, spacing)
    labels = labels[..., rows, columns]
    around = {"LV": (3,), "RV": (1,), "MYO": (2, 3)}
    compared = 0
    for z, t in ((z, t) for z in range(4) for t in range(6)):
        for polygons, values in zip(data["contours"][z][t], around.values(), strict=True):
            mask = np.isin(labels[t, z], values)
            again = filled(polygons, mask.shape)
            assert (again & ~binary_dilation(mask)).sum() == (binary_erosion(mask) & ~again).sum() == 0
            assert (again ^ mask).sum() <= 0.03 * mask.sum() + 2
            compared += mask.any()
    assert compared > 40


def test_little_islands_holes_and_the_border_are_drawn():
    mask = np.zeros((20, 24), bool)
    mask[0:9, 0:9] = True  # in the corner
    mask[3:5, 3:5] = False  # a hole
    mask[15, 20] = True  # a stray pixel
    assert len(contours(mask)) == 3
    again = filled(contours(mask), mask.shape)
    assert again[15, 20] and not again[3:5, 3:5].any() and again[1, 4] and (again ^ mask).sum() <= 8
    assert contours(mask & False) == []


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flipped", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_heart_is_shown_as_readers_know_it(frames, transposed, flipped):
    """However the stack is stored, the patient's left is on the right and the feet are below."""
    voxels, labels = frames
    right, down = np.array([-0.7, -0.7, 0.14]), np.array([0.35, -0.35, -0.87])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([1.5 * right / np.linalg.norm(right), 2.0 * down / np.linalg.norm(down), [6, -6, 6]], 1)
    stored = affine @ np.diag((*flipped, 1, 1))
    turn = (..., slice(None, None, flipped[1]), slice(None, None, flipped[0]))
    images, segmentation = voxels[turn], labels[turn]
    if transposed:
        stored, images, segmentation = stored[:, [1, 0, 2, 3]], images.swapaxes(2, 3), segmentation.swapaxes(2, 3)
    seen = as_seen(replace(analysis_of(images, segmentation), cine=Cine(images, stored)))
    assert np.array_equal(seen[0], voxels) and np.array_equal(seen[1], labels)
    assert seen[2] == pytest.approx((2.0, 1.5))


def test_a_stack_along_the_axes_stays_as_it_is(analysis):
    assert as_seen(analysis)[0] is analysis.cine.voxels


def test_numbers_have_the_decimals_that_mean_something():
    assert number(54.4, "%") == "54" and number(9.25, "mm") == "9.2" and number(5.04, "L/min") == "5.0"
    assert number(-12.3, "%") == "−12" and number(-0.3, "%") == "0" and number(float("nan"), "mL") == "–"


def test_a_folder_that_cannot_be_written(analysis, tmp_path):
    with pytest.raises(UserError, match="choose another folder with -o"):
        write_report(analysis, tmp_path / "missing" / "report.html")


BROWSER_STEPS = """
window.addEventListener("load", () => setTimeout(() => {
  const by = (id) => document.getElementById(id), viewer = by("viewer"), stage = by("stage"), found = {};
  const key = (name) => stage.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const pixels = () => { // through a copy: a canvas that is read again and again gets a warning
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [stage.width, stage.height];
    const context = copy.getContext("2d");
    context.drawImage(stage, 0, 0);
    return [...context.getImageData(0, 0, copy.width, copy.height).data];
  };
  found.played = Number(viewer.dataset.phase);
  key(" ");
  found.paused = by("play").textContent;
  found.size = [stage.clientWidth, stage.clientHeight];
  const drawn = pixels();
  found.greys = new Set(drawn.filter((_, i) => i % 4 === 0)).size;
  key("c");
  found.contours = pixels().some((value, i) => value !== drawn[i]);
  const { slice, phase } = viewer.dataset;
  key("ArrowUp"), key("ArrowRight");
  found.moved = [viewer.dataset.slice - slice, (viewer.dataset.phase - phase + 6) % 6];
  by("mosaic").children[0].click();
  found.chosen = viewer.dataset.slice;
  by("view-pair").click();
  found.view = viewer.dataset.view;
  found.curves = document.querySelectorAll("#chart .curve").length;
  const chart = by("chart").getBoundingClientRect();
  by("chart").setPointerCapture = () => {};
  by("chart").dispatchEvent(new PointerEvent("pointerdown", { clientX: chart.right - 15, clientY: chart.top + 50 }));
  found.jumped = viewer.dataset.phase;
  document.body.dataset.found = JSON.stringify(found);
}, 450));
"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """The page after a while in a browser, and what the browser's console said."""
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom",
         "--enable-logging=stderr", "--virtual-time-budget=1300", "--window-size=1200,900", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_in_a_browser(frames, analysis, tmp_path):
    page = page_of(analysis, tmp_path)
    dom, console = browse(tmp_path / "report.html", tmp_path / "profile")
    assert console == ""
    assert re.search(r'id="viewer"[^>]*data-phase="[1-9]', dom), "the cine does not play"

    page = page_of_wide_pixels(frames, tmp_path)
    scripted = re.sub(r"<meta http-equiv[^>]*>", "", page).replace(
        "</body>", f"<script>{BROWSER_STEPS}</script></body>"
    )
    (tmp_path / "scripted.html").write_text(scripted, "utf-8")
    dom, console = browse(tmp_path / "scripted.html", tmp_path / "profile")
    assert console == ""
    attribute = dict(next(attributes for tag, attributes in Elements(dom).found if tag == "body"))["data-found"]
    found = json.loads(attribute)
    data = data_of(page)
    assert found["played"] > 0 and found["paused"] == "Play"
    assert found["greys"] > 50 and found["contours"]
    assert found["moved"] == [1, 1] and found["chosen"] == "0" and found["view"] == "pair"
    assert found["curves"] == 3 and found["jumped"] == "5"
    width, height = found["size"]
    assert width / height == pytest.approx(2 * data["width"] / data["height"], rel=0.02)


@pytest.mark.parametrize("patient", [Patient("F", 54, 1.68, 70), Patient()])
def test_a_flag_counts_the_indices_that_the_page_has(frames, patient):
    """Those divided by the body surface are there only where it is known."""
    analysis = analysis_of(*frames, heart_rate=60.0, patient=patient)
    everything = Flag("All", "Everything.", tuple(analysis.indices))
    shown = [cell for row in report.index_table(analysis, {}) for cell in row["cells"] if cell]
    (flag,) = report.flags(replace(analysis, flags=(everything,)))
    assert flag["indices"] == f"{len(shown)} of {len(shown)} indices, marked below"


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_on_paper_it_has_two_pages_however_many_flags(analysis, tmp_path):
    flags = tuple(replace(UNSURE, reason="Mirrored copies differ by more than is usual. " * 3) for _ in range(30))
    page_of(replace(analysis, flags=(BASAL, *flags)), tmp_path)
    printed = tmp_path / "report.pdf"
    subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=1300", f"--print-to-pdf={printed}", (tmp_path / "report.html").as_uri()],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert len(re.findall(rb"/Type /Page\b", printed.read_bytes())) == 2


def page_of_wide_pixels(frames, folder: Path) -> str:
    """A page whose pixels are twice as wide as high."""
    file = folder / "wide.html"
    write_report(analysis_of(*frames, affine=(4.2, 2.1, 10.0)), file)
    return file.read_text("utf-8")
