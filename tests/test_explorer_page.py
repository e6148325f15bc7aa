"""The page of all examples in a browser: how fast it answers, click, filter, search, link, keyboard, narrow screens, accessibility.

These tests drive the system's Chromium and are skipped where there is none; no browser is downloaded.
"""

import shutil

import numpy as np
import pytest

import jaxinfl
from jaxinfl import Dataset, Ensemble
from jaxinfl.explore import write_explorer
from tests.explored import (
    HELPED,
    HELPER,
    HOSTILE,
    HURTER,
    MEMORIZED,
    TEST,
    TRAIN,
    WRONG_LABEL,
    make_images,
    make_runs,
    make_scores,
)

sync_playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").sync_playwright
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is on the PATH; the page is not tried in a browser"),
]
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MEGABYTE = 1e6


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser):
    """Opens a file at an address; at the end nothing may have been written to the console, and nothing asked of a network."""
    contexts, complaints = [], []

    def open_page(path, address="", width=1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri() + address)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The page of runs whose memorization and influences are known, with hostile names."""
    data, (masks, train, test) = make_images(), make_scores()
    runs = Ensemble.from_scores(masks, {"correct": train}, {"correct": test}, data=data)
    risk = jaxinfl.membership(masks, train.astype(np.float32), method="threshold")
    return write_explorer(runs, data, tmp_path_factory.mktemp("small") / "page.html", membership=risk)


def status(page):
    return page.inner_text("#status")


def chosen(page):
    return page.inner_text("#detail h2")


def point_of(page, index):
    """Place of a training example's point in the window."""
    return page.evaluate(
        """(i) => { const frame = plot.element.querySelector('canvas').getBoundingClientRect(), [left, top] = plot.view.origin();
        return [frame.left + left + plot.view.scale('x')(sets.train.values.mean_out[i]),
                frame.top + top + plot.view.scale('y')(height().values[i])]; }""",
        index,
    )


def test_a_click_shows_the_partners_and_a_partner_its_own(small, open_page):
    page = open_page(small)
    page.mouse.click(*point_of(page, WRONG_LABEL))
    assert chosen(page).startswith(f"train {WRONG_LABEL}: ") and "may be wrong" in page.inner_text("#detail dl")
    page.fill("input[name=q]", f"#{HELPER}")
    page.click("#list button")
    first = page.locator("#detail .partners").nth(0).locator("button").nth(0)
    assert "told" in first.get_attribute("class") and f"test {HELPED}: " in first.inner_text()
    assert "q < 0.001; right: 8" in first.inner_text() and "models with train 3" in first.inner_text()
    last = page.locator("#detail .partners").nth(0).locator("button").nth(7)
    assert "noise" in last.get_attribute("class") and "not told from chance" in last.inner_text()
    first.click()
    assert chosen(page).startswith(f"test {HELPED}: ")
    speaks_for = page.locator("#detail .partners").nth(0).locator("button").nth(0).inner_text()
    assert f"train {HELPER}: " in speaks_for and "speak for it" in page.inner_text("#detail")
    assert "of all 400 models" in page.inner_text("#detail dl")
    page.go_back()
    page.wait_for_function(f"document.querySelector('#detail h2').textContent.startsWith('train {HELPER}: ')")
    assert page.input_value("input[name=q]") == f"#{HELPER}"


def test_a_click_leaves_the_list_as_it_is(small, open_page):
    """The list of many images takes longer to make than the example that was asked for."""
    page = open_page(small)
    page.evaluate("document.querySelector('#list li').dataset.old = 'yes'")
    page.mouse.click(*point_of(page, WRONG_LABEL))
    page.wait_for_timeout(100)
    assert page.evaluate("document.querySelector('#list li').dataset.old") == "yes"


def test_pictures_of_the_list_are_painted_when_they_come_into_view(small, open_page):
    page = open_page(small)
    for place in (0, -1):
        assert page.evaluate("[...document.querySelectorAll('#list .waiting')].length") > 20
        page.locator("#list .picture").nth(place).scroll_into_view_if_needed()
        page.wait_for_function(
            f"[...document.querySelectorAll('#list .picture')].at({place}).style.backgroundImage !== ''"
        )


def test_no_sheet_is_read_while_the_page_still_arrives(small, open_page):
    """A sheet may be there in part then, and half of a picture is no picture."""
    page = open_page(small)
    read = "() => { addresses.clear(); return sheetAddress(0); }"
    assert page.evaluate(read).startswith("blob:")
    page.evaluate("Object.defineProperty(document, 'readyState', { get: () => 'loading', configurable: true })")
    assert page.evaluate(read) is None


def test_filters_and_search(small, open_page):
    page = open_page(small)
    assert status(page) == f"{TRAIN} of {TRAIN} training examples, by memorization"
    page.check("input[name=suspects]")
    assert status(page).startswith(f"1 of {TRAIN} ")
    page.click("text=Clear filters")
    page.fill("input[name=above]", "0.3")
    assert status(page).startswith(f"2 of {TRAIN} ")
    page.fill("input[name=above]", "")
    page.select_option("select[name=class]", "1")
    assert status(page).startswith(f"{TRAIN // 3} of {TRAIN} ")
    page.fill("input[name=q]", "bee 13")
    assert status(page).startswith("1 of ") and "train 13: bee" in page.inner_text("#list")
    page.fill("input[name=q]", "#14")
    assert status(page).startswith("0 of ")
    page.click("text=Clear filters")
    page.fill("input[name=q]", "<script>")
    assert status(page).startswith(f"{TRAIN // 3} of ")
    page.fill("input[name=q]", "")
    page.select_option("select[name=split]", "test")
    assert status(page) == f"{TEST} of {TEST} test examples, by index"
    page.select_option("select[name=sort]", "mean")
    page.check("input[name=wrong]")
    assert 0 <= int(status(page).split()[0]) < TEST


def test_a_drag_keeps_a_rectangle_and_the_link_restores_it(small, open_page):
    page = open_page(small, f"#id={MEMORIZED}")
    x, y = point_of(page, MEMORIZED)
    page.mouse.move(x - 25, y - 12)
    page.mouse.down()
    page.mouse.move(x + 25, y + 12, steps=4)
    page.mouse.up()
    page.wait_for_function("document.getElementById('status').textContent.includes('in the rectangle')")
    kept, link = status(page), page.url
    assert f"train {MEMORIZED}: " in page.inner_text("#list") and "brush=" in link and f"id={MEMORIZED}" in link
    again = open_page(small, link[link.index("#") :])
    assert status(again) == kept and chosen(again) == chosen(page)
    assert again.evaluate("plot.view.data('brush_store').length") == 1
    # Of another address in the same window, too.
    again.evaluate("location.hash = '#split=test&id=4&q=bee&sort=mean'")
    again.wait_for_function("document.getElementById('status').textContent.includes('test examples')")
    assert chosen(again).startswith("test 4: ") and again.input_value("input[name=q]") == "bee"


@pytest.mark.parametrize(
    "address", ["#id=99999", "#id=-1&split=nothing&sort=x&y=z", "#brush=1,2,x,", "#class=77", "#%"]
)
def test_a_link_that_makes_no_sense_harms_nothing(small, open_page, address):
    page = open_page(small, address)
    assert "training examples" in status(page) and chosen(page) == "No example is chosen"


def test_the_keyboard_is_enough(small, open_page):
    page = open_page(small)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("ant")
    assert status(page).startswith(f"{TRAIN // 3} of ")
    page.keyboard.press("ArrowRight")  # moves the cursor in the field, and no more
    assert chosen(page) == "No example is chosen"
    page.keyboard.press("Escape")
    assert status(page).startswith(f"{TRAIN} of ")
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    one = chosen(page)
    page.keyboard.press("ArrowRight")
    assert chosen(page) != one
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == one
    page.focus("#list button[tabindex='0']")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("Enter")
    page.focus("#detail .partners button")
    page.keyboard.press("Enter")
    assert chosen(page).startswith("test ")


def test_another_height(small, open_page):
    page = open_page(small, "#y=risk")
    assert page.inner_text("#plot-title").startswith("Membership risk of")
    page.select_option("select[name=y]", "memorization")
    assert page.inner_text("#plot-title").startswith("Memorization of")


def test_names_and_texts_stay_text(small, open_page, tmp_path):
    page = open_page(small, "#id=2")
    assert HOSTILE in chosen(page) and page.title().endswith(HOSTILE)
    assert page.locator("img").count() == 0 and page.locator("#detail script").count() == 0
    rng = np.random.default_rng(0)
    words = ("a", HOSTILE, "</script>", "<!--", "\u2028", "{{x}}", "&lt;")
    labels = np.arange(TRAIN + TEST) % 3
    data = Dataset(
        train_inputs=rng.integers(0, 7, (TRAIN, 12)).astype(np.int32),
        train_targets=labels[:TRAIN],
        test_inputs=rng.integers(0, 7, (TEST, 12)).astype(np.int32),
        test_targets=labels[TRAIN:],
        category_names=words,
    )
    page = open_page(write_explorer(make_runs(data), data, tmp_path / "page.html"), "#id=2")
    assert "</script>" in page.inner_text("#detail") and "pwned" not in page.title()
    page.fill("input[name=q]", "<!--")
    assert 0 < int(status(page).split()[0]) <= TRAIN


@pytest.mark.parametrize("address", ["", "#id=3", "#split=test&id=5"])
def test_a_narrow_screen(small, open_page, address):
    page = open_page(small, address, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#list button >> nth=1")
    assert page.evaluate("document.getElementById('detail').getBoundingClientRect().top") < 900


@pytest.mark.parametrize("width", [360, 1280])
def test_the_rules_of_axe(small, open_page, tmp_path, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    rng = np.random.default_rng(0)
    rows = {"age": rng.normal(size=TRAIN), "town": np.arange(TRAIN) % 2}
    table = Dataset(
        train_inputs=rows,
        train_targets=rng.normal(size=TRAIN),
        test_inputs={name: array[:TEST] for name, array in rows.items()},
        test_targets=rng.normal(size=TEST),
        task="regression",
    )
    masks, train, test = make_scores()
    runs = Ensemble.from_scores(masks, {"bleu": train * 1.5}, {"bleu": test * 1.5}, data=table)
    other = write_explorer(runs, table, tmp_path / "table.html")
    for path, address in ((small, ""), (small, "#id=3"), (small, "#split=test&id=5"), (other, f"#id={HURTER}")):
        page = open_page(path, address, width)
        page.click("summary")
        found = axe.run(page).response["violations"]
        assert not found, [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def fastest(measure, limit, tries=4):
    """The smallest of some measurements: a machine that is busy for a moment is no reason to fail."""
    best = np.inf
    for _ in range(tries):
        best = min(best, measure())
        if best < limit:
            break
    return best


def milliseconds_to(page, event):
    """Milliseconds from the start of the navigation to the first paint, or to when everything answers."""
    paint = "performance.getEntriesByType('paint')[0].startTime"
    ready = "Number(document.documentElement.dataset.ready)"
    return page.evaluate(paint if event == "paint" else ready)


def test_digits_are_small_and_fast(open_page, tmp_path):
    data = jaxinfl.load_dataset("digits")
    rng = np.random.default_rng(0)
    masks = rng.random((200, data.num_train)) < 0.5
    runs = Ensemble.from_scores(
        masks,
        {"correct": rng.random(masks.shape) < 0.9},
        {"correct": rng.random((200, data.num_test)) < 0.9},
        data=data,
    )
    path = write_explorer(runs, out=tmp_path / "digits.html")
    assert path.stat().st_size < 5 * MEGABYTE
    assert fastest(lambda: milliseconds_to(open_page(path), "ready"), 1000) < 1000


def make_colour_runs():
    """10,000 + 2,000 colour images and what 100 models say of them."""
    rng = np.random.default_rng(0)
    # As hard to compress as photographs are: noise at several scales.
    images = sum(
        np.kron(rng.normal(size=(12_000, 32 // side, 32 // side, 3)), np.ones((1, side, side, 1))) * side * 2.5
        for side in (1, 2, 4, 8)
    )
    images = np.clip(128 + images, 0, 255).astype(np.uint8)
    labels = np.arange(12_000) % 10
    data = Dataset(
        train_inputs=images[:10_000],
        train_targets=labels[:10_000],
        test_inputs=images[10_000:],
        test_targets=labels[10_000:],
    )
    masks = rng.random((100, 10_000)) < 0.5
    runs = Ensemble.from_scores(
        masks,
        {"correct": rng.random(masks.shape) < rng.random(10_000)},
        {"correct": rng.random((100, 2000)) < rng.random(2000)},
        data=data,
    )
    return runs, data


def test_12_000_colour_images_are_small_and_fast(open_page, tmp_path):
    rng = np.random.default_rng(1)
    runs, data = make_colour_runs()
    path = write_explorer(runs, data, tmp_path / "colour.html")
    assert path.stat().st_size < 20 * MEGABYTE
    assert fastest(lambda: milliseconds_to(open_page(path), "paint"), 2000) < 2000
    page = open_page(path)

    def answer_to(click):
        page.evaluate(
            """() => addEventListener('click', (event) => { window.clicked = event.timeStamp;
            requestAnimationFrame(() => setTimeout(() => (window.answered = performance.now()))); }, {once: true, capture: true})"""
        )
        before = chosen(page)
        page.evaluate("window.answered = null")
        click()
        page.wait_for_function("window.answered !== null")
        assert chosen(page) != before
        page.wait_for_timeout(300)  # in which the list and the plot are made
        return page.evaluate("window.answered - window.clicked")

    def click_point():
        place = point_of(page, int(rng.integers(10_000)))
        return answer_to(lambda: page.mouse.click(*place))

    def click_partner():
        """It is in the other set, so that the list and the plot change, too."""
        return answer_to(lambda: page.locator(".partners button").nth(int(rng.integers(8))).click())

    # The first click took 240 ms, because the list was made anew, and a partner 120 ms, because list and plot came before its details
    # (2 cores, November 2026); now the slowest of 30 takes 61 and 48 ms.
    for click in (click_point, click_partner):
        assert np.median([click() for _ in range(7)]) < 100 or fastest(click, 100, 10) < 100
