"""Check the app's page with axe-core (from npm) in Chromium, in each of its states.

    python benchmarks/accessibility.py [--screenshots FOLDER]

Needs Playwright, Debian's Chromium and npm. Prints every violation; ends with 1 if one is serious or critical.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from stableviton_sdk.pipelines.loading import BUNDLED

SAMPLES = BUNDLED / "samples"
AXE = "axe-core@4"
VISITORS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
GRAVE = ("serious", "critical")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER", help="keep an image of every state")
    arguments = parser.parse_args()
    axe = fetch_axe()
    command = [sys.executable, "-m", "stableviton_sdk", "app", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        grave = 0
        for visitor, options in VISITORS.items():
            page = browser.new_context(**options).new_page()
            page.goto(address)
            for state in states(page):
                grave += check(page, axe, f"{visitor}, {state}")
                if arguments.screenshots:
                    arguments.screenshots.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=arguments.screenshots / f"{visitor}-{state.replace(' ', '-')}.png")
        browser.close()
        server.terminate()
    print(f"{grave} serious or critical violations")
    sys.exit(min(grave, 1))


def fetch_axe() -> str:
    """axe-core's script."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            return package.extractfile("package/axe.min.js").read().decode()


def states(page):
    """Walk through the page; yields a name each time that there is something to check."""
    page.locator("#quality-choices input").first.wait_for(state="attached")
    yield "empty"
    page.click("#try-on")
    page.wait_for_selector("#message.error", state="visible")
    yield "error"
    page.set_input_files("#person-file", SAMPLES / "person_1.png")
    page.wait_for_selector("#mask-tools", state="visible")
    page.set_input_files("#garment-file", [SAMPLES / "garment_1.png", SAMPLES / "garment_2.png"])
    page.locator(".garment").nth(1).wait_for()
    page.focus("#mask-canvas")
    yield "mask"
    page.click("#try-on")
    yield "waiting"
    page.locator(".card[data-status='done']").nth(1).wait_for()
    page.wait_for_selector("#compare", state="visible")
    box = page.locator("#compare-images").bounding_box()
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.55 * box["height"])
    page.wait_for_selector("#source-mark", state="visible")
    yield "result"


def check(page, axe: str, name: str) -> int:
    """Print what axe-core finds; returns how much of it is grave."""
    page.evaluate(axe)
    violations = page.evaluate("axe.run().then((results) => results.violations)")
    print(f"{name}: {len(violations)} violations")
    for violation in violations:
        places = [" ".join(map(str, node["target"])) for node in violation["nodes"]]
        print(f"  {violation['impact']}: {violation['id']}: {violation['help']} ({', '.join(places[:5])})")
    return sum(violation["impact"] in GRAVE for violation in violations)


if __name__ == "__main__":
    main()
