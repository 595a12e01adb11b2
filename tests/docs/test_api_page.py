"""docs/api.md is what the code says of itself today."""

from __future__ import annotations

import pages

from node import api_page, openapi
from node.problems import Code


def test_the_api_page_is_current():
    kept = (pages.ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert kept == api_page.page(), "run: make docs"


def test_the_page_names_every_path_code_and_field():
    page = api_page.page()
    assert all(f"| `{code}` |" in page for code in Code)
    for path, methods in openapi._paths().items():
        assert all(f"### {method.upper()} {path}\n" in page for method in methods)
