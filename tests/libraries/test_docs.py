"""docs/libraries.md shows lines of the tests, and names every test."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "libraries.md").read_text()
SECTIONS = PAGE.split("\n## ")[1:]


def test_every_line_is_a_tests() -> None:
    assert len(SECTIONS) >= 20
    for section in SECTIONS:
        (name,) = re.findall(r"From \[(\w+\.py)\]", section)
        lines = {line.strip() for line in (HERE / name).read_text().splitlines()}
        (block,) = re.findall(r"```python\n(.*?)\n```", section, re.DOTALL)
        assert [line for line in block.splitlines() if line.strip() not in lines] == [], name


def test_every_library_is_there() -> None:
    tests = {path.name for path in HERE.glob("test_*.py")} - {"test_docs.py", "test_http_server.py"}
    assert tests <= set(re.findall(r"From \[(\w+\.py)\]", PAGE))
