"""A page in a real browser, headless, and what is wrong with it there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "needs chromium and chromedriver, Debian's packages"

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: What is wrong with the page that is open, as its elements tell.
WRONG = """
    const wrong = [];
    for (const image of document.images)
        if (!image.complete || image.naturalWidth === 0) wrong.push("missing image " + image.src);
    for (const svg of document.querySelectorAll("svg")) {
        const box = svg.getBoundingClientRect();
        if (!(box.width > 20 && box.height > 10)) wrong.push("empty figure");
    }
    for (const link of document.querySelectorAll("a[href^='#']"))
        if (!document.getElementById(link.getAttribute("href").slice(1)))
            wrong.push("dangling link " + link.getAttribute("href"));
    for (const use of document.querySelectorAll("use")) {
        const target = use.getAttribute("href") || use.getAttribute("xlink:href");
        if (!document.getElementById(target.slice(1))) wrong.push("dangling use " + target);
    }
    const ids = Array.from(document.querySelectorAll("[id]"), element => element.id);
    for (const id of new Set(ids))
        if (ids.filter(other => other === id).length > 1) wrong.push("id given twice " + id);
    const root = document.documentElement;
    if (root.scrollWidth > root.clientWidth)
        wrong.push("wider than the window: " + root.scrollWidth + " of " + root.clientWidth);
    return wrong;
"""


class Browser:
    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path | str, width: int) -> list[str]:
        """Open a file or an address in a window of some width; return what is wrong with it.

        A page that is served may load what is beside it there, and nothing else.
        """
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # those so far are of another page
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.driver.get(address)
        wrong = [f"console: {entry['message']}" for entry in self.driver.get_log("browser")]
        for event in self._events():
            match event["method"], event["params"]:
                case "Network.requestWillBeSent", {"request": {"url": url}}:
                    # A page without an icon says so in a data address, which asks for nothing.
                    own = url == address or (isinstance(page, str) and url.startswith(page))
                    if not own and not url.startswith("data:"):
                        wrong.append(f"request: {url}")
                case "Network.loadingFailed", {"errorText": text}:
                    wrong.append(f"failed request: {text}")
        return wrong + self.driver.execute_script(WRONG)

    def _events(self) -> Iterator[dict[str, Any]]:
        for entry in self.driver.get_log("performance"):
            yield json.loads(entry["message"])["message"]


@contextmanager
def browser(*flags: str) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The profile is still being written while the browser ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        try:
            driver.get("about:blank")
            yield Browser(driver)
        finally:
            driver.quit()
