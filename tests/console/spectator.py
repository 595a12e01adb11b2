"""Somebody who looks at the console in a real browser, and notes everything that it must not do."""

from __future__ import annotations

import os
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import wait_until
from playwright.sync_api import Error, expect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

POLL_MS = 2000
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
TRIES = 5
IMAGES = Path(__file__).parents[2] / "docs" / "images"
WRITES_DOCS = os.environ.get("QUORUMVAULT_WRITE_DOCS") == "1"
MAX_IMAGE_BYTES = 200 * 1024
DESKTOP = {"width": 1280, "height": 980}
PHONE = {"width": 360, "height": 740}
SEES_S = 40.0
"""How long a fault may take to show: the nodes' own time-outs, on a busy machine."""

expect.set_options(timeout=SEES_S * 1000)

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def probe(name: str) -> str:
    """JavaScript to be run in the page: probe_NAME.js beside this file."""
    return Path(__file__).with_name(f"probe_{name}.js").read_text()


FRAME = """() => new Promise((drawn) => new ResizeObserver(drawn).observe(document.body))"""
"""Until the browser lays out what was changed, which no clock of our own holds up."""
PARTS = """([first, last]) => {
  const edge = (part) => (document.querySelector(part).closest(".panel") ??
    document.querySelector(part)).getBoundingClientRect();
  return [edge(first).top + scrollY - 8, edge(last).bottom + scrollY + 14];
}"""


class Spectator:
    """One window."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.excused = [NETWORK_CHANGED]
        """Parts of console lines that are not the page's doing but the test's; or the machine's: a
        network came or went, the browser drops what is under way, and the page asks again."""
        self._said: list[str] = []
        self._asked: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._said.append(f"error: {error}"))
        page.on("request", self._on_request)

    @classmethod
    @contextmanager
    def looking(cls, browser: Browser, origin: str, **options: Any) -> Iterator[Spectator]:
        """Open the console, wait until it shows something, and check at the end how it was."""
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(SEES_S * 1000)
        context.add_init_script(WATCH)
        try:
            looking = cls(context.new_page(), origin)
            looking.open()
            yield looking
            looking.page.unroute_all(behavior="wait")
            looking.check()
        finally:
            context.close()

    def open(self) -> None:
        self._go()
        try:
            expect(self.page.locator("#nodes tbody tr")).to_have_count(5)
        except AssertionError as error:
            error.add_note(f"said: {self._said}; asked: {self._asked}")
            raise

    def _go(self) -> None:
        for _ in range(TRIES):
            try:
                self.page.goto(f"{self.origin}/")  # the way in leads to the console
            except Error as error:
                if NETWORK_CHANGED not in error.message:
                    raise
                # Its page for this is still on the way, and would interrupt the next try.
                self.page.wait_for_url("chrome-error://**", wait_until="commit")
            else:
                return
        raise AssertionError(f"this machine's networks changed at each of {TRIES} tries")

    def _on_console(self, message: ConsoleMessage) -> None:
        self._said.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        self._asked.append(request.url)

    def check(self) -> None:
        """No word on the browser's console, no violation of its policy, no other origin."""
        said = [line for line in self._said if not any(part in line for part in self.excused)]
        assert said == []
        assert self.page.evaluate("window.violations") == []
        assert self._asked
        assert [url for url in self._asked if not url.startswith(f"{self.origin}/")] == []

    # ------------------------------------------------------------------ what is seen

    def sees(self, word: str, tolerance: str) -> None:
        """Wait until the verdict says this."""
        expect(self.page.locator("#word")).to_have_text(word)
        expect(self.page.locator("#tolerance")).to_have_text(tolerance)

    def sees_node(self, node: int, word: str) -> None:
        """Wait until a node is said to be so, in the map and in the table."""
        row = self.page.locator(f"#nodes tbody tr:nth-child({node})")
        expect(row.locator("td b").first).to_have_text(word)
        tile = self.page.locator("#map .tile").nth(node - 1).locator(".tile-state")
        expect(tile).to_contain_text(word)

    def halves(self) -> dict[str, int]:
        """Half lines of the map, by how they are drawn."""
        kinds = self.page.locator("#map line").evaluate_all(
            "lines => lines.map((line) => line.getAttribute('class'))"
        )
        return {kind: kinds.count(kind) for kind in set(kinds)}

    def sees_leaders_without(self, node: int) -> None:
        """Wait until every shard has a leader, and it is not this node."""
        self.page.wait_for_function(
            "(node) => [...document.querySelectorAll('#shards .chip')].every((chip) =>"
            " !chip.matches('.chip-none') && chip.lastElementChild.textContent !== node)",
            arg=str(node),
        )

    def sees_halves(self, **wanted: int) -> None:
        """Wait until the map has so many halves up, down and unknown."""
        count = "(kind) => document.querySelectorAll(`#map .link-${kind}`).length"
        for kind in ("up", "down", "unknown"):
            number = wanted.get(kind, 0)
            self.page.wait_for_function(f"([kind, n]) => ({count})(kind) === n", arg=[kind, number])

    def drawn(self) -> None:
        """Wait until all that was changed is laid out and drawn: two frames."""
        for _ in range(2):
            self.page.evaluate(FRAME)

    # ------------------------------------------------------------------ what the node says

    def hears(self, change: Callable[[dict[str, Any]], object]) -> None:
        """From now on one answer of the node, with other words in it each time it is asked.

        One in which all five have answered: on a busy machine each may be missing now and then. And
        taken before: whatever fails in a handler of Playwright fails all later calls of the test.
        """
        whole = wait_until(self._whole_answer, "all nodes answer the one that is asked")

        def answer(route: Route) -> None:
            state = deepcopy(whole)
            change(state)
            route.fulfill(json=state)

        self.page.route("**/state.json", answer)

    def _whole_answer(self) -> dict[str, Any] | None:
        state = self.page.request.get(f"{self.origin}/console/state.json").json()
        return state if all(node["view"] for node in state["nodes"]) else None

    def next_answers(self, number: int) -> None:
        """So many more answers on their way to the page; at once, with a clock of our own."""
        for _ in range(number):
            with self.page.expect_response("**/state.json"):
                self.after(POLL_MS)

    def has_own_clock(self) -> None:
        """Let the page's time be put forward; to be opened anew for it."""
        self.page.clock.install()
        self.open()

    def after(self, milliseconds: int) -> None:
        """Put the page's time forward: what is due in it happens now."""
        self.page.clock.fast_forward(milliseconds)

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    # ------------------------------------------------------------------ pictures

    def picture(self, name: str, first: str = "header", last: str = "#nodes") -> bytes:
        """What it looks like between two parts; kept when the pages' pictures are to be written."""
        self.page.mouse.move(0, 0)
        top, bottom = self.page.evaluate(PARTS, [first, last])
        width = self.page.viewport_size["width"]
        clip = {"x": 0, "y": top, "width": width, "height": bottom - top}
        data = self.page.screenshot(full_page=True, clip=clip, animations="disabled")
        if WRITES_DOCS:
            assert len(data) < MAX_IMAGE_BYTES, f"{name}: {len(data)} bytes"
            IMAGES.mkdir(exist_ok=True)
            (IMAGES / f"console-{name}.png").write_bytes(data)
        return data

    def write_pictures(self, name: str) -> None:
        """For the documents; nothing is compared."""
        if WRITES_DOCS:
            self.pictures(name)

    def pictures(self, name: str) -> tuple[bytes, bytes]:
        """In light and in dark."""
        light = self.picture(f"{name}-light")
        self.page.emulate_media(color_scheme="dark")
        dark = self.picture(f"{name}-dark")
        self.page.emulate_media(color_scheme="light")
        return light, dark
