"""The demo in a real browser: JupyterLab runs the notebook, a game is played by keyboard and mouse
to its end, and pictures must really change. Needs Chromium and playwright; says so where they are
missing. Screenshots: DEMO_SHOTS=folder keeps them."""

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from notebook_kit import KERNEL_ENV, ROOT, read, smallest_parameters, source, tags

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="playwright is missing: pip install playwright",
    ),
]
SECONDS = 150  # for the notebook to run
TURN = 30_000  # milliseconds for a turn on a machine that does other things too


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A copy of the notebook with its smallest parameters."""
    folder = tmp_path_factory.mktemp("lab")
    held = read(ROOT / "notebooks" / "06_demo.ipynb")
    (cell,) = [c for c in held["cells"] if "parameters" in tags(c)]
    text = source(cell)
    for name, value in smallest_parameters(held).items():
        text = re.sub(rf"(?m)^{name} = [^#]*", f"{name} = {value!r}  ", text)
    cell["source"] = text
    for cell in held["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    (folder / "06_demo.ipynb").write_text(json.dumps(held), encoding="utf-8")
    return folder / "06_demo.ipynb"


@pytest.fixture(scope="module")
def lab(notebook, tmp_path_factory):
    """The address of a JupyterLab of its own, with nothing of the user's settings; afterwards its
    log must hold no error."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token, private = secrets.token_hex(16), tmp_path_factory.mktemp("private")
    settings = private / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab"
    for name, value in (
        ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}),
        ("notebook-extension/tracker", {"windowingMode": "none"}),
    ):
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    names = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
        "MPLCONFIGDIR",
    )
    env = os.environ | KERNEL_ENV | {name: str(private / name) for name in names}
    env |= {"JUPYTER_TOKEN": token, "PYTHONPATH": str(ROOT)}
    options = (
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={notebook.parent}",
        "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    )
    command = [sys.executable, "-m", "jupyterlab", *options]
    log = private / "lab.log"
    with log.open("w") as held:
        server = subprocess.Popen(
            command, env=env, stdout=held, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(400):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=5)
                break
            except OSError:
                time.sleep(0.25)
        yield f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={token}&reset"
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text()


@pytest.fixture
def page(lab, tmp_path):
    """A page with the notebook open; what it complains about is collected in ``page.errors``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,
            viewport={"width": 1280, "height": 1250},
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        page = browser.pages[0] if browser.pages else browser.new_page()
        page.set_default_timeout(60_000)
        page.errors = []
        page.on("pageerror", lambda e: page.errors.append(str(e)))
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("dialog", lambda d: (page.errors.append(f"dialog: {d.message}"), d.dismiss()))

        def elsewhere(route):
            page.away.append(route.request.url)
            route.fulfill(
                content_type="image/svg+xml", body='<svg xmlns="http://www.w3.org/2000/svg"/>'
            )

        page.away = []  # what is fetched from elsewhere
        page.route(
            lambda url: not url.startswith(("http://127.0.0.1", "data:", "blob:")), elsewhere
        )
        page.goto(lab)
        page.locator(".jp-NotebookPanel:visible .jp-Notebook").wait_for()
        page.locator(".jp-StatusBar-Widget").get_by_text("| Idle").wait_for(timeout=90_000)
        page.keyboard.press("Control+B")  # the file browser away, as a reader would
        yield page
        browser.close()


def attribute_asked_for(text, thing):
    """The attribute of a thing that an open question is about."""
    if "how many" in text:
        return "trees"
    if "what kind" in text:
        return thing
    if text.startswith("where"):
        return f"{thing}_place"
    return "wall" if thing == "building" else f"{thing}_color"


def truthful(scene, text):
    """The true answer to an open question, told from its words as a person would."""
    from adafuse_lite import game
    from adafuse_lite.game import seeing
    from adafuse_lite.postcards import world
    from adafuse_lite.postcards.world import thing_of

    thing_named = lambda words: next(
        (t for t in seeing.KINDS if any(w in words for w in (t, *seeing.KINDS[t]))), None
    )
    if text.startswith(("are there any", "is there")):
        name = thing_named(text)
        form = "exists"
    else:
        form = "open"
        plain = next((n for n in ("sky", "weather", "ground", "roof") if n in text), None)
        name = plain or attribute_asked_for(text, thing_named(text))
    assert name in world.ATTRIBUTES and (thing_of(name) or name), text
    return game.Answerer(scene).answer(game.Question(name, form, text))


def test_a_whole_game(page, tmp_path):
    from playwright.sync_api import expect

    from adafuse_lite import game, load_benchmark

    began = time.monotonic()
    shots = Path(os.environ.get("DEMO_SHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    benchmark = load_benchmark("postcards", split="test")
    scene = benchmark.scenes[game.hidden_postcards(benchmark)[0]]
    expect(
        page.locator(".jp-OutputArea-output", has_text="no photographs given").last
    ).to_be_visible(timeout=SECONDS * 1000)
    demo = page.locator(".af").first
    state, now, wall = demo.locator(".state"), demo.locator(".now"), demo.locator(".wall")
    box = demo.get_by_label("You say")
    drawing = lambda: demo.get_by_alt_text("Drawing of", exact=False).get_attribute("src")
    said = demo.locator(".says")
    asked = lambda: now.inner_text().removeprefix("Describe it in your own words, or answer: ")

    def see(name):
        for width in (1280, 900):
            page.set_viewport_size({"width": width, "height": 1250})
            demo.evaluate("e => e.scrollIntoView({block: 'start'})")
            page.wait_for_timeout(300)
            page.screenshot(path=shots / f"{name}_{width}.png")
            wide = demo.evaluate(
                "e => [e.scrollWidth, e.clientWidth, e.getBoundingClientRect().right]"
            )
            assert wide[0] <= wide[1] + 1 and wide[2] <= width, (
                f"{name}: wider than the page of {width}: {wide}"
            )
        page.set_viewport_size({"width": 1280, "height": 1250})

    def turns(count):
        """Wait until so many messages have been answered."""
        expect(said).to_have_count(count, timeout=TURN)
        expect(demo.locator(".busy")).to_have_count(0, timeout=TURN)

    see("0_before")
    expect(demo.get_by_alt_text("The hidden postcard")).to_be_visible()
    # by keyboard: describe it, Enter; nothing at all is not a round
    box.focus()
    page.keyboard.press("Enter")
    expect(state).to_contain_text("nothing to read")
    page.keyboard.type("somewhere in the country", delay=5)
    page.keyboard.press("Enter")
    turns(1)
    expect(box).to_have_value("")
    expect(wall.locator("img")).to_have_count(27)
    first, cards = drawing(), wall.inner_html()
    # by keyboard in words of one's own
    page.keyboard.type(truthful(scene, asked()), delay=5)
    page.keyboard.press("Enter")
    turns(2)
    assert drawing() != first and wall.inner_html() != cards, "the pictures did not change"
    see("1_second_round")
    # by mouse, twice in haste: one round; the second click is too late
    answer, before = truthful(scene, asked()), asked()
    demo.get_by_role("button", name=answer, exact=True).dblclick()
    turns(3)
    page.wait_for_timeout(1500)
    expect(said).to_have_count(3)
    assert asked() != before, "the same question twice"
    # undo, and again by the keyboard alone
    demo.get_by_role("button", name="Undo").press("Enter")
    turns(2)
    assert asked() == before
    demo.get_by_role("button", name=answer, exact=True).press("Space")
    turns(3)
    # the same words, another drawing
    old = drawing()
    demo.get_by_role("button", name="Draw again").click()
    page.wait_for_function(
        "old => document.querySelector('.af img[alt^=\"Drawing of\"]').src !== old",
        arg=old,
        timeout=TURN,
    )
    # the gate by hand
    cards, slider = wall.inner_html(), demo.locator(".noUi-handle").first
    slider.focus()
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    expect(demo.get_by_role("img", name="set by hand")).to_be_visible(timeout=TURN)
    page.wait_for_function(
        "old => document.querySelector('.af .wall').innerHTML !== old", arg=cards, timeout=TURN
    )
    see("2_gate_by_hand")
    demo.get_by_role("button", name="As the head says").click()
    expect(demo.get_by_role("img", name="set by hand")).to_have_count(0, timeout=TURN)
    # to the end
    count, took = 3, []
    while now.inner_text() != "The game is over." and count < 12:
        count, start = count + 1, time.monotonic()
        answer = truthful(scene, asked())
        button = demo.get_by_role("button", name=answer, exact=True)
        if button.count():
            button.click()
        else:
            box.fill(answer)
            box.press("Enter")
        turns(count)
        took.append(time.monotonic() - start)
    expect(now).to_have_text("The game is over.")
    expect(state).to_contain_text(re.compile("you win|draw|it wins|not in the top ten"))
    see("3_the_end")
    # a new game; any text is safe; a free search
    demo.get_by_role("button", name="New postcard").click()
    turns(0)
    demo.get_by_role("button", name="Free search").click()
    expect(demo.get_by_alt_text("The hidden postcard")).to_have_count(0, timeout=TURN)
    nasty = "<img src=x onerror=alert(1)> <b>\U0001f404</b> \u05db\u05e4\u05e8 & red barn"
    box.fill(nasty)
    demo.get_by_role("button", name="Send").click()
    turns(1)
    expect(said).to_have_text(nasty)
    box.fill("red tower " * 150)
    box.press("Enter")
    turns(2)
    expect(demo.locator(".chat")).to_contain_text("its end is cut off")
    demo.get_by_label("Ask me").select_option("yes or no")
    expect(demo.get_by_role("button", name="no", exact=True)).to_be_visible(timeout=TURN)
    see("4_free_search")
    # nobody complained: neither the page nor the kernel
    for kind in ("stderr", "error"):
        outputs = page.locator(f'[data-mime-type="application/vnd.jupyter.{kind}"]')
        expect(outputs).to_have_count(0)
    assert "went wrong" not in demo.inner_text()
    assert not page.errors, page.errors[:5]
    assert all("colab-badge" in url for url in page.away), page.away
    seconds = ", ".join(f"{t:.1f}" for t in took)
    print(f"turns in the browser: {seconds} s; the test: {time.monotonic() - began:.0f} s")
