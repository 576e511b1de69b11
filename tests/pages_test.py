"""Every page in a real browser: no error, nothing from outside, keyboard, narrow, dark, print."""

import base64
import shutil

import numpy as np
import pytest

from datapipe.preview import page as preview_page
from datapipe.preview.preview import Example, Variant
from models import run_folder
from models.metrics.table import Table
from models.multirun import comparison, label_review
from models.multirun import page as comparison_page
from models.reporting import neighbours, predictions, report
from models.reporting import page as report_page
from records.cluster import clustering
from records.cluster import report as cluster_report
from records.cluster import rows as cluster_rows
from records.inspect import leaks
from records.split import folds
from records.surveying import checks, facts, findings, measure
from records.surveying import page as survey_page
from tests import fakes
from tests.models import made
from tests.records import made as made_sets
from tests.records import pictures

webdriver = pytest.importorskip("selenium.webdriver")
CLASSES = ("마스크 <b>", "없음 & so")


@pytest.fixture(scope="module")
def browser():
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(paths[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), dict.fromkeys(CLASSES, 40), size=48)


def table_of(opened, split, seed=0):
    index = opened.index(split)
    share = np.random.default_rng(seed).random(len(index)).astype(np.float32)
    keys = tuple(index.key(row) for row in range(len(index)))
    values = np.stack([share, 1 - share], 1)
    return Table(keys, ("",) * len(keys), index.group, index.label, values)


def _report(records, folder):
    table, run = table_of(records, "test"), made.run(records)
    near = [neighbours.Neighbour(row, 0.9) for row in range(3)]
    extras = report.ReportExtras(
        validation=table_of(records, "validation"),
        train_confusion=np.array([[20, 4], [2, 22]]),
        num_compared=48,
        near=dict.fromkeys(report.shown_mistakes(table), near),
    )
    sheet = folder / "augmented.png"
    sheet.write_bytes(fakes.encoded(np.zeros((300, 1600, 3), np.uint8)))
    said = report.contents(run, records, "test", table, extras)
    return report_page.write(said, records, "test", str(folder), augmented=str(sheet))


def _comparison(records, folder):
    for seed, name in enumerate(("base", "other")):
        (folder / name).mkdir()
        path = predictions.path(str(folder / name), "test")
        predictions.write(table_of(records, "test", seed), records.manifest.class_names, path)
        flags = {"epochs": seed, "note": "a very long flag " * 9}
        run_folder.save(made.run(records, flags=flags), str(folder / name))
    found = [comparison.variation(str(folder / name), "test") for name in ("base", "other")]
    return comparison_page.write(comparison.compare(found, "test"), str(folder))


def _doubts(records, folder):
    pooled = folds.pooled(records)
    names = records.manifest.class_names
    issues = predictions.label_issues(table_of(pooled, folds.POOLED), names)
    return label_review.write(issues, pooled, folds.POOLED, str(folder))[2]


def _survey(records, folder):
    table = measure.measure_records(
        records, list(records.manifest.splits), num_workers=1, show_progress=False
    )
    pairs = leaks.pairs_by_image(table.columns, table.fingerprints)
    found = findings.findings(checks.Evidence(table, pairs, 0.15))
    said = survey_page.contents(facts.facts(table), found, 0.15)
    return survey_page.write(said, found, table, str(folder))


def _clusters(_, folder):
    every = [made_sets.Row(b"%d.png" % n, image=i) for n, i in enumerate(pictures.stacked(24, 12))]
    of_two = made_sets.record_set_of(
        folder / "set", every, class_names=CLASSES[:1], image_size=pictures.SIDE
    )
    rows = cluster_rows.rows_of(of_two, ["train"])
    features, members = (
        cluster_rows.features_of(rows),
        cluster_rows.groups_of(rows, within_class=True),
    )
    options = clustering.ClusterOptions()
    groups = cluster_rows.cluster_groups(rows, features, members, options, "auto")
    said = cluster_report.contents(rows, features, groups, {"within": "class"})
    said |= {"tags": None}
    cluster_report.write(said, rows, features, groups, str(folder), "a command " * 30)
    return folder / cluster_report.PAGE_NAME


def _preview(records, folder):
    images = [fakes.pixels(seed, 48) for seed in range(3)]
    variants = tuple(Variant(n, image, {}, ("mirrored",), 0.5) for n, image in enumerate(images))
    examples = [Example(7, 0, CLASSES[0], images[0], variants)]
    given = {"facts": ["a fact " * 30], "warnings": ["a warning " * 30], "batch_size": 2}
    path = folder / "preview.html"
    path.write_bytes(preview_page.page(examples, title="What the model sees " * 5, **given))
    return path


PAGES = {
    "report": _report,
    "comparison": _comparison,
    "doubts": _doubts,
    "survey": _survey,
    "clusters": _clusters,
    "preview": _preview,
}
IMAGES = "return Array.from(document.images).map(i => i.complete ? i.naturalWidth : 0)"
FETCHED = """
return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))
"""
CUT_OFF = """
return Array.from(document.querySelectorAll('.scroll'))
  .map(e => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX !== 'visible')
"""
COLOURS = """
return Array.from(document.querySelectorAll('body, .soft, td, figcaption, .key')).map(e => {
  const back = x => getComputedStyle(x).backgroundColor, clear = 'rgba(0, 0, 0, 0)';
  let ground = e;
  while (ground !== document.body && back(ground) === clear) ground = ground.parentElement;
  return [getComputedStyle(e).color, back(ground)];
});"""


@pytest.fixture(scope="module", params=PAGES)
def page(request, browser, records, tmp_path_factory):
    path = PAGES[request.param](records, tmp_path_factory.mktemp(request.param))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(f"file://{path}")
    return browser


def test_it_is_read_without_error_and_all_is_in_it(page):
    assert not page.get_log("browser")
    widths = page.execute_script(IMAGES)
    assert widths and all(widths)
    assert not page.execute_script(FETCHED)
    assert page.find_elements("css selector", "h1")
    assert not page.find_elements("css selector", "script, img:not([alt])")
    if "report" in page.current_url:
        assert CLASSES[0] in page.find_element("css selector", "table.confusion").text


@pytest.mark.parametrize("width", [1200, 390])
def test_it_is_no_wider_than_the_screen(page, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_what_scrolls_is_reached_by_the_keyboard(page):
    regions = page.find_elements("css selector", ".scroll")
    regions = [region for region in regions if region.is_displayed()]  # not what is folded away
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(len(regions) + 10):
        webdriver.ActionChains(page).send_keys("\ue004").perform()  # Tab
        reached.add(page.switch_to.active_element.id)
    assert {region.id for region in regions} <= reached


def _luminance(colour):
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    parts = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (number / 255 for number in numbers)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(page, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    pairs = {tuple(pair) for pair in page.execute_script(COLOURS)}
    grounds = {ground for _, ground in pairs if "rgba" not in ground}
    assert all((_luminance(ground) < 0.2) == (scheme == "dark") for ground in grounds)
    for text, ground in pairs:
        if "rgba" not in ground:  # a shade over another ground
            low, high = sorted((_luminance(text), _luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_nothing_is_cut_off_in_print(page):
    assert base64.b64decode(page.print_page())[:5] == b"%PDF-"
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(page.execute_script(CUT_OFF))
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
