# SPDX-License-Identifier: Apache-2.0
"""The limit over all pods in cgroup v1 and v2, and with both names of its folder."""

from __future__ import annotations

import pytest

from dynamic_memory.host.cgroups import CeilingMissing, CeilingReading, Unwritable, find_ceiling
from dynamic_memory.host.errors import Unreadable

GIB = 1 << 30
UNLIMITED_V1 = "9223372036854771712"


def make(root, version, name, limit, usage):
    folder = root / ("memory" if version == 1 else "") / name
    folder.mkdir(parents=True)
    files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    for file, value in zip(files, (limit, usage), strict=True):
        (folder / file).write_text(f"{value}\n")
    return folder / files[0]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["kubepods", "kubepods.slice"])
def test_the_limit_is_found_read_and_written_in_whole_pages(tmp_path, version, name):
    file = make(tmp_path, version, name, 8 * GIB, GIB)
    ceiling = find_ceiling(tmp_path)
    assert ceiling.version == version
    assert ceiling.read() == CeilingReading(8 * GIB, GIB)
    assert ceiling.write(9 * GIB + 4097) == 9 * GIB + 4096
    assert file.read_text() == f"{9 * GIB + 4096}\n"
    assert ceiling.read().limit == 9 * GIB + 4096


@pytest.mark.parametrize(("version", "text"), [(1, UNLIMITED_V1), (2, "max"), (2, str(1 << 62))])
def test_no_limit_is_none(tmp_path, version, text):
    make(tmp_path, version, "kubepods", text, GIB)
    assert find_ceiling(tmp_path).read() == CeilingReading(None, GIB)


def test_a_path_of_its_own_is_looked_at_alone(tmp_path):
    make(tmp_path, 2, "kubepods", 8 * GIB, 0)
    make(tmp_path, 2, "outer/kubepods", 4 * GIB, 0)
    assert find_ceiling(tmp_path, "/outer/kubepods").read().limit == 4 * GIB
    with pytest.raises(CeilingMissing, match="elsewhere"):
        find_ceiling(tmp_path, "/elsewhere")


def test_without_a_cgroup_of_pods_it_says_where_it_looked(tmp_path):
    with pytest.raises(CeilingMissing, match=str(tmp_path)):
        find_ceiling(tmp_path)


@pytest.mark.parametrize("text", ["", "many", "-1"])
def test_what_is_not_a_limit_is_unreadable(tmp_path, text):
    make(tmp_path, 2, "kubepods", text, 0)
    with pytest.raises(Unreadable, match=r"memory\.max"):
        find_ceiling(tmp_path).read()


def test_a_file_that_cannot_be_written_says_why(tmp_path):
    file = make(tmp_path, 2, "kubepods", GIB, 0)
    ceiling = find_ceiling(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(Unwritable, match="Is a directory"):
        ceiling.write(2 * GIB)
