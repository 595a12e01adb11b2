"""What the console shows while a data center is cut off, dies and comes back: one page, four times.

The page is opened once and never loaded again: whoever has it open on a wall must be able to
trust it. Five real nodes, a real cut, a real SIGKILL.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect
from spectator import PHONE, WRITES_DOCS, Spectator

if TYPE_CHECKING:
    from harness import Vault5
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

CUT = 4
DEAD = 3
RING = 20
"""Half lines between five nodes."""
AT_ONE_NODE = 8
BROKEN = re.compile("does not answer|cut off|No link|No leader|stops the vault|not ready")
"""What no alarm says of a whole vault. (That a disk or a loop is slow, a busy machine may earn.)"""


def test_a_data_center_is_cut_off_another_dies_and_both_come_back(
    console_vault: Vault5, spectator: Spectator
) -> None:
    page = spectator.page
    page.evaluate("window.same = true")
    spectator.sees("Healthy", "two more data centers may fail")
    for node in console_vault.ids:
        spectator.sees_node(node, "ready")
    spectator.sees_halves(up=RING)
    expect(page.locator("#tile-led")).to_have_text("16 of 16")
    expect(page.locator("#alarms")).not_to_contain_text(BROKEN)
    expect(page.locator("#map .link-label-bad")).to_have_count(0)
    expect(page.locator(".chart-total").first).not_to_have_text("0")
    light, dark = spectator.pictures("healthy")
    assert light != dark

    console_vault.on_loop(console_vault.cluster.wan.isolate, CUT)
    spectator.sees("Degraded", "one more data center may fail")
    spectator.sees_node(CUT, "cut off")
    spectator.sees_halves(up=RING - AT_ONE_NODE, down=AT_ONE_NODE)
    expect(page.locator("#why")).to_contain_text(f"node {CUT} (dublin)")
    expect(page.locator("#alarms")).to_contain_text(f"Node {CUT} (dublin) is cut off")
    expect(page.locator("#map .link-label-bad")).to_have_text(["cut"] * 4)
    spectator.sees_leaders_without(CUT)
    spectator.write_pictures("cut")

    console_vault.on_loop(console_vault.cluster.wan.heal)
    console_vault.kill(DEAD)
    spectator.sees_node(DEAD, "unreachable")
    spectator.sees_node(CUT, "ready")
    spectator.sees("Degraded", "one more data center may fail")
    spectator.sees_halves(up=RING - AT_ONE_NODE, down=4, unknown=4)
    alarm = page.locator("#alarms li").filter(has_text=f"Node {DEAD} (paris) does not answer")
    expect(alarm).to_contain_text("NodeDown")
    reason = page.locator(f"#nodes tbody tr:nth-child({DEAD}) td small")
    expect(reason).to_contain_text("last answer")
    spectator.sees_leaders_without(DEAD)
    spectator.write_pictures("dead")

    console_vault.restart(DEAD)
    spectator.sees("Healthy", "two more data centers may fail")
    spectator.sees_node(DEAD, "ready")
    spectator.sees_halves(up=RING)
    expect(page.locator("#alarms")).not_to_contain_text(BROKEN)
    expect(page.locator("#events")).to_contain_text(f"node {DEAD}")
    spectator.write_pictures("back")
    if WRITES_DOCS:
        spectator.picture("lower-light", "#shards", "#events")
    assert page.evaluate("window.same") is True  # never loaded again


def test_a_phone_shows_everything_and_scrolls_only_downwards(
    console_vault: Vault5, browser: Browser
) -> None:
    origin = console_vault.ops_url(1)
    with Spectator.looking(browser, origin, viewport=PHONE, has_touch=True) as phone:
        phone.sees("Healthy", "two more data centers may fail")
        assert phone.overflow() == 0
        cell = phone.page.locator("#matrix button").nth(3)
        cell.tap()
        expect(phone.page.locator("#matrix-hint")).to_contain_text("From node 1 (frankfurt) to")
        for summary in phone.page.locator("summary").all():
            summary.tap()
        assert phone.overflow() == 0
        if WRITES_DOCS:
            phone.picture("phone-light", "header", "#map")
