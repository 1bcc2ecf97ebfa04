"""The search page in headless Chromium: every kind of question, filters, sharing, keys, hostile texts, bad uploads."""

import os
import shutil

import pytest

from tests.serving.served import HOSTILE, picture
from tests.serving.test_guard import SVG, bomb

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("AISTUDIO_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium here (set AISTUDIO_CHROMIUM)")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=60_000)
        yield running
        running.close()


@pytest.fixture
def open_page(browser, server):
    """Opens pages of the server; at the end none has complained, run a foreign script or asked another host."""
    contexts, problems = [], []

    def make(path="/", expect=(), **how):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how))
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda m: problems.append(m.text) if m.type == "error" and not any(e in m.text for e in expect) else None,
        )
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("dialog", lambda d: problems.append(d.message))
        page.on("request", lambda r: None if r.url.startswith((server, "blob:")) else problems.append(r.url))
        page.goto(server + path)
        return page

    yield make
    for context in contexts:
        assert not [p for p in context.pages if p.title() == "owned"]
        context.close()
    assert not problems


def results(page):
    page.wait_for_load_state()
    return [t.split("\n")[0] for t in page.locator(".said").all_inner_texts()]


def test_words_then_more_like_this_then_words_beside_it(open_page):
    page = open_page()
    page.fill(".words", "red 4")
    page.press(".words", "Enter")
    page.wait_for_url("**/?text=red+4")
    first = results(page)
    assert len(first) == 12 and page.locator(".why").first.inner_text() == "like the text"
    page.locator(".result .pic").first.click()
    page.wait_for_url("**/?row=*")
    assert "like" in page.locator(".askname").inner_text() and "like" in page.locator(".why").first.inner_text()
    page.fill(".words", "yellow")
    page.press(".words", "Enter")
    page.wait_for_url("**text=yellow**")
    assert "and like the text" in page.locator(".why").first.inner_text()
    before = results(page)
    page.locator("input[name=wp]").evaluate("e => { e.value = 0; e.dispatchEvent(new Event('change')); }")
    page.wait_for_url("**wp=0**")
    assert results(page) != before
    page.click(".drop")
    page.wait_for_url("**/?text=yellow*")
    assert page.locator(".askpic").count() == 0


def test_a_photograph_is_chosen_shared_and_composed_with_words(open_page, tmp_path):
    (tmp_path / "photo.png").write_bytes(picture("red", 4))
    page = open_page()
    page.set_input_files("#file", str(tmp_path / "photo.png"))
    page.wait_for_url("**/?photo=*")
    assert page.locator(".why").first.inner_text() == "like the picture"
    found, address = results(page), page.url
    other = open_page(address[address.index("/?") :])
    assert results(other) == found  # a shared link, in a browser of its own
    page.select_option("select[name=in] >> nth=0", "run:composed")
    page.wait_for_url("**in=run%3Acomposed**")
    page.fill(".words", "at night")
    page.press(".words", "Enter")
    page.wait_for_url("**text=at+night**")
    assert page.locator(".why").first.inner_text() == "like the picture as the text changes it"


def test_filters_narrow_and_chips_take_them_away(open_page):
    page = open_page("/?text=red&per=row")
    whole = results(page)
    page.click("summary:has-text('Filters')")
    page.check("input[name='is.category'][value=blue]")
    page.fill("input[name='max.price']", "100")
    page.click(".filters .go")
    page.wait_for_url("**is.category=blue**")
    fewer = results(page)
    assert 0 < len(fewer) < len(whole) and page.locator(".active .chip").count() == 2
    page.locator(".active .chip").first.click()
    page.wait_for_function("document.querySelectorAll('.active .chip').length === 1")
    page.locator("details summary:has-text('Details')").first.click()
    assert "category" in page.locator(".fields").first.inner_text()


def test_two_models_stand_side_by_side(open_page):
    page = open_page("/?row=1&text=at+night")
    page.select_option("select[name=in] >> nth=1", "run:composed")
    page.wait_for_load_state()
    page.wait_for_function("document.querySelectorAll('.list').length === 2")
    left, right = (page.locator(".list").nth(i).locator(".why").first.inner_text() for i in (0, 1))
    assert "and like the text" in left and right == "like the picture as the text changes it"
    assert page.locator(".files a").count() == 4
    half = open_page("/?text=red&in=run:recall&in=run:composed")  # words alone ask no composer
    assert half.locator(".list").nth(0).locator(".result").count()
    assert "picture beside it" in half.locator(".list .warned").inner_text()


def test_nothing_found_is_said(open_page):
    page = open_page("/?text=red&is.category=red&max.price=-1")
    assert "Nothing found" in page.locator(".empty").inner_text()
    assert open_page("/").locator(".start h1").inner_text() == "24 pictures"


@pytest.mark.parametrize("javascript", [True, False])
def test_hostile_texts_are_texts(open_page, javascript):
    page = open_page(
        "/?per=row&n=24&text=" + HOSTILE.replace("#", "%23").replace("&", "%26"), java_script_enabled=javascript
    )
    assert page.locator(".words").input_value() == HOSTILE
    assert page.locator(".result").count() == 24
    for box in page.locator(".result details summary").all()[:24]:
        box.click()
    assert HOSTILE in page.locator(".results").inner_text()
    assert page.locator("script").count() == 2 and page.locator("img[onerror]").count() == 0


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [("bomb.png", bomb(), "image_too_large"), ("x.svg", SVG, "not_an_image|unsupported_image"),
     ("../../etc/passwd", b"root:x", "not_an_image"),
     ("large.png", b"\x89PNG" + b"\0" * 220_000, "more than 200,000 bytes"),
     ("huge.png", b"\x89PNG" + b"\0" * 2_000_000, "too large")],
    ids=["bomb", "svg", "path", "large", "huge"],
)  # fmt: skip
def test_bad_uploads_are_said_on_the_page(open_page, name, body, said):
    page = open_page("/?per=row", expect=("413", "422"))
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": body})
    page.wait_for_selector("[role=alert]")
    assert any(one in page.locator("[role=alert]").inner_text() for one in said.split("|"))
    if not page.locator(".words").count():  # so much that nothing of it was read
        page.click("text=To the search")
    page.wait_for_selector(".words")  # and one may go on


def test_an_address_inside_is_refused_on_the_page(open_page):
    page = open_page("/?url=http://169.254.169.254/latest/meta-data/", expect=("422",))
    assert "blocked_address" in page.locator("[role=alert]").inner_text()


def test_it_works_without_scripts(open_page, tmp_path):
    (tmp_path / "photo.png").write_bytes(picture("blue", 2))
    page = open_page("/", java_script_enabled=False)
    page.fill(".words", "blue 2")
    page.click(".askrow .go")
    assert page.locator(".result").count() == 12
    page.set_input_files("#file", str(tmp_path / "photo.png"))
    page.click("#photo button")
    page.wait_for_url("**photo=*")
    assert page.locator(".result").count() == 12


def test_keys_lead_through_the_results(open_page):
    page = open_page("/?text=red&n=5")
    page.keyboard.press("Escape")
    page.locator("h2").first.click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.querySelector('.badge').textContent") == "2"
    page.keyboard.press("d")
    assert page.locator(".result").nth(1).locator("details").evaluate("e => e.open")
    page.keyboard.press("k")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.className") == "words"
    page.keyboard.press("Tab")
    page.locator("h2").first.click()
    page.keyboard.press("n")
    page.wait_for_url("**page=2")
    assert page.locator(".badge").first.inner_text() == "6"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(open_page, scheme):
    size = {"viewport": {"width": 390, "height": 844}, "color_scheme": scheme, "has_touch": True, "is_mobile": True}
    for path in (
        "/",
        "/?text=red",
        "/?row=1&text=at+night&in=run:recall&in=run:composed",
        "/docs",
        f"/?text={'x' * 500}",
    ):
        page = open_page(path, **size)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 16, 21)"
        assert dark == (scheme == "dark")
