# SPDX-License-Identifier: Apache-2.0
"""Habits that no linter knows: licence headers, declared names, nothing that should not be told."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
TRACKED = [
    path
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if (path := ROOT / name).is_file()
]
SOURCES = [path for path in TRACKED if path.suffix == ".py" and not GENERATED.search(path.name)]
MODULES = [path for path in SOURCES if path.is_relative_to(ROOT / "src")]
YAML = [path for path in TRACKED if path.suffix in {".yaml", ".yml"}]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_source_names_its_licence() -> None:
    without = [name(path) for path in SOURCES if "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:200]]

    assert [] == without


def test_every_module_says_why_it_exists() -> None:
    assert [] == [name(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]


def test_every_module_declares_its_names() -> None:
    def declares(path: Path) -> bool:
        return any(
            isinstance(node, ast.Assign | ast.AnnAssign)
            and "__all__" in ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            for node in ast.parse(path.read_text()).body
        )

    assert [] == [name(path) for path in MODULES if not declares(path)]


def test_no_requirement_is_without_hash_or_names_a_server() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        pinned = re.findall(r"^[a-z0-9][^\s]*.*==", text, re.MULTILINE)
        assert text.count("--hash=sha256:") >= len(pinned) > 0
        assert "://" not in text


@pytest.mark.parametrize("path", YAML, ids=name)
def test_yaml_files_can_be_read(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text()))
