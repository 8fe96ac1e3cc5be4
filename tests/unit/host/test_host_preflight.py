# SPDX-License-Identifier: Apache-2.0
"""From mountinfo, controllers and containerd's configuration to what is enforced on a node."""

from __future__ import annotations

import pytest
from tests.support.machine import GIB, Node, build, put

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host import containerd
from dynamic_memory.host.containerd import RuntimeFacts
from dynamic_memory.host.mounts import CgroupMode, cgroup_mounts, parse_mountinfo
from dynamic_memory.host.node_facts import read_facts, read_runtime
from dynamic_memory.host.preflight import Check, NodeFacts, Verdict, findings, worst

ROOT = "22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw"
V2 = "30 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
# as the kernel prints it: the option is one of the file system, in the last field
ACCOUNTING = V2 + ",memory_hugetlb_accounting"
# the place where dra-driver-memory looks for it
NOT_ACCOUNTING = V2.replace("relatime", "relatime,memory_hugetlb_accounting")
OTHER_V2 = "31 22 0:26 / /mnt/cgroup\\040two rw,relatime - cgroup2 none rw"
UNIFIED = "40 39 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "\n".join(
    f"{41 + n} 39 0:{30 + n} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"
    for n, name in enumerate(("memory", "cpuset", "hugetlb", "pids"))
)
GOOD = RuntimeFacts(version=3, hugetlb_disabled=False, nri_disabled=False, cdi_disabled=False)
ALL = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def judge(*lines, chosen=None, controllers=ALL, runtime=GOOD):
    mounts = cgroup_mounts(parse_mountinfo("\n".join((ROOT, *lines))), chosen)
    found = findings(NodeFacts(mounts=mounts, controllers=controllers, runtime=runtime, nodes=1))
    return {finding.check: finding for finding in found}


def test_a_whole_node_passes():
    found = judge(V2)
    assert worst(list(found.values())) is Verdict.PASS
    assert str(found[Check.CGROUPS]) == "PASS cgroups: cgroup version 2 at /sys/fs/cgroup"


def test_P1_without_cgroups_a_node_is_refused():
    finding = judge()[Check.CGROUPS]
    assert finding.verdict is Verdict.REFUSED
    assert "mount cgroup2" in finding.text


def test_P1_two_places_are_refused_unless_one_is_named():
    finding = judge(V2, OTHER_V2)[Check.CGROUPS]
    assert finding.verdict is Verdict.REFUSED
    assert "--cgroup-root" in finding.text
    assert judge(V2, OTHER_V2, chosen="/mnt/cgroup two")[Check.CGROUPS].verdict is Verdict.PASS
    assert judge(V2, OTHER_V2, chosen="/nowhere")[Check.CGROUPS].verdict is Verdict.REFUSED


def test_P2_accounting_is_an_option_of_the_file_system():
    assert cgroup_mounts(parse_mountinfo(ACCOUNTING)).hugetlb_accounting
    assert not cgroup_mounts(parse_mountinfo(NOT_ACCOUNTING)).hugetlb_accounting


def test_P3_accounting_is_a_degraded_mode_that_is_stated():
    finding = judge(ACCOUNTING)[Check.ACCOUNTING]
    assert finding.verdict is Verdict.DEGRADED
    assert "huge pages count as memory as well" in finding.text
    assert judge(V2)[Check.ACCOUNTING].verdict is Verdict.PASS


@pytest.mark.parametrize(("lines", "mode"), [((UNIFIED, V1), CgroupMode.HYBRID), ((V1,), CgroupMode.V1)])
def test_P4_version_1_is_a_degraded_mode_that_is_stated(lines, mode):
    assert cgroup_mounts(parse_mountinfo("\n".join(lines))).mode is mode
    found = judge(*lines)
    assert found[Check.CGROUPS].verdict is Verdict.DEGRADED
    assert "`protect` protects nothing" in found[Check.CGROUPS].text
    assert found[Check.CONTROLLERS].verdict is Verdict.PASS
    without = judge(*(line.replace("rw,hugetlb", "rw,freezer") for line in lines))
    assert without[Check.CONTROLLERS].verdict is Verdict.DEGRADED
    assert "huge pages cannot be limited" in without[Check.CONTROLLERS].text


@pytest.mark.parametrize("missing", ["cpuset", "memory", "hugetlb"])
def test_P5_each_controller_is_needed(missing):
    finding = judge(V2, controllers=[name for name in ALL if name != missing])[Check.CONTROLLERS]
    assert finding.verdict is Verdict.REFUSED
    assert f"the root has no {missing}" in finding.text


def test_P5_controllers_that_cannot_be_read_are_refused():
    assert judge(V2, controllers=None)[Check.CONTROLLERS].verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("change", "check", "says"),
    [
        ({"hugetlb_disabled": True}, Check.RUNTIME_HUGETLB, "silently vanish"),
        ({"nri_disabled": True}, Check.RUNTIME_NRI, "neither placed nor limited"),
        ({"cdi_disabled": True}, Check.RUNTIME_CDI, "do not learn of their claims"),
    ],
)
def test_P_runtime_settings_are_needed(change, check, says):
    plain = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    finding = judge(V2, runtime=RuntimeFacts(**{**plain, **change}))[check]
    assert finding.verdict is Verdict.REFUSED
    assert says in finding.text
    assert "setup-runtime" in finding.text


def test_P_an_unknown_runtime_is_said():
    assert judge(V2, runtime=None)[Check.RUNTIME_HUGETLB].verdict is Verdict.DEGRADED


def test_lines_that_are_no_mounts_are_passed_over():
    assert parse_mountinfo("nonsense\n\n1 2 3 - x\n") == []


# --- containerd's configuration

V3_DEFAULT = "version = 3\n"
V2_DEFAULT = "version = 2\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (3, True, False, False)),
        (V3_DEFAULT, (3, True, False, False)),
        (V2_DEFAULT, (2, True, True, True)),
        (
            "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\ndisable_hugetlb_controller = false\n",
            (3, False, False, False),
        ),
        ('version = 3\n[plugins."io.containerd.nri.v1.nri"]\ndisable = true\n', (3, True, True, False)),
        ('version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nenable_cdi = true\n', (2, True, True, False)),
    ],
)
def test_what_a_configuration_means(text, expected):
    facts = containerd.runtime_facts(containerd.parse(text))
    assert (facts.version, facts.hugetlb_disabled, facts.nri_disabled, facts.cdi_disabled) == expected


def test_where_a_switch_is_set_is_told_with_file_and_line(tmp_path):
    main = tmp_path / "config.toml"
    more = tmp_path / "conf.d/10-more.toml"
    imports = f"imports = ['{tmp_path}/conf.d/*.toml']"
    put(main, f"version = 3\n{imports}\n[plugins.'io.containerd.nri.v1.nri']\n  disable = true\n")
    put(more, "[plugins.'io.containerd.cri.v1.runtime']\n# off\n disable_hugetlb_controller = true # mine\n")
    assert read_runtime(main).places == {
        "disable_hugetlb_controller": f"{more}, line 3: disable_hugetlb_controller = true # mine",
        "disable": f"{main}, line 4: disable = true",
        "enable_cdi": f"{main} does not set enable_cdi in [plugins.'io.containerd.cri.v1.runtime']",
    }
    put(more, "[plugins.'io.containerd.nri.v1.nri']\ndisable = false\n")
    assert read_runtime(main).places["disable"] == f"{more}, line 2: disable = false", "the last file counts"


def test_containerd_1_7_takes_the_section_of_an_imported_file_instead_of_that_of_the_main_one(tmp_path):
    """services/server/config/config.go, mergeConfig: sections of plugins are replaced; containerd 2 merges them."""
    main, more = tmp_path / "config.toml", tmp_path / "conf.d/99-gpu.toml"
    section = "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.gpu]\nruntime_type = 'io.containerd.runc.v2'\n"
    put(main, f"imports = ['{tmp_path}/conf.d/*.toml']\n{containerd.setup(V2_DEFAULT)}")
    put(more, f"version = 2\n{section}")
    facts = read_runtime(main)
    assert (facts.hugetlb_disabled, facts.cdi_disabled, facts.nri_disabled) == (True, True, False)
    assert facts.places["enable_cdi"] == (
        f"{more} does not set enable_cdi in [plugins.'io.containerd.grpc.v1.cri'], and containerd 1.7 takes that "
        f"section instead of the one of {main}"
    )
    assert facts.imported == {"disable_hugetlb_controller", "enable_cdi"}
    put(main, f"imports = ['{tmp_path}/conf.d/*.toml']\n{containerd.setup(V3_DEFAULT)}")
    put(more, section.replace("grpc.v1.cri", "cri.v1.runtime"))
    assert read_runtime(main).hugetlb_disabled is False


def test_a_switch_of_an_imported_file_is_to_be_mended_there(tmp_path):
    """The command edits one file, and says of the main one that there is nothing to change."""
    main, more = tmp_path / "config.toml", tmp_path / "more.toml"
    good = containerd.setup("")
    put(main, f"imports = ['{more}']\n{good}")
    put(more, "[plugins.'io.containerd.cri.v1.runtime']\ndisable_hugetlb_controller = true\nenable_cdi = false\n")
    build(tmp_path, [Node(0, GIB)])
    found = {finding.check: finding.text for finding in findings(read_facts(tmp_path, containerd=main))}
    for check, mend in (
        (Check.RUNTIME_HUGETLB, "set `disable_hugetlb_controller = false` there and restart containerd"),
        (Check.RUNTIME_CDI, "set `enable_cdi = true` there and restart containerd"),
    ):
        assert str(more) in found[check]
        assert mend in found[check]
        assert "setup-runtime" not in found[check]
    put(more, more.read_text().replace("= true", "= false").replace("enable_cdi = false", "enable_cdi = true"))
    assert {
        finding.check for finding in findings(read_facts(tmp_path, containerd=main)) if "there" in finding.text
    } == set()


REAL = """\
# written by the administrator
version = 3
root = '/var/lib/containerd'

[plugins]
  [plugins.'io.containerd.cri.v1.runtime']
    enable_selinux = false   # keep me
    disable_hugetlb_controller = true
    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = 'runc'

  [plugins.'io.containerd.nri.v1.nri']
    disable = true
    socket_path = '/var/run/nri/nri.sock'
"""


@pytest.mark.parametrize(
    "text",
    [
        "",
        V3_DEFAULT,
        V2_DEFAULT,
        REAL,
        REAL.replace("'", '"'),
        'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  enable_cdi = false\n',
        "version = 3\nimports = ['/etc/containerd/conf.d/*.toml']",
    ],
)
def test_setup_turns_on_what_is_needed_and_nothing_else(text):
    after = containerd.setup(text)
    facts = containerd.runtime_facts(containerd.parse(after))
    assert (facts.hugetlb_disabled, facts.nri_disabled, facts.cdi_disabled) == (False, False, False)
    assert containerd.setup(after) == after, "a second run changes nothing"
    before_lines = [line for line in text.splitlines() if "disable" not in line and "enable_cdi" not in line]
    assert all(line in after.splitlines() for line in before_lines)


def test_setup_writes_no_switch_that_the_newest_containerd_does_not_know():
    assert "enable_cdi" not in containerd.setup(V3_DEFAULT)
    assert "enable_cdi = true" in containerd.setup(V2_DEFAULT)
    off = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  enable_cdi = false\n"
    assert "enable_cdi = true" in containerd.setup(off)


def test_setup_keeps_comments_and_indentation():
    after = containerd.setup(REAL)
    assert "    enable_selinux = false   # keep me" in after
    assert "    disable_hugetlb_controller = false" in after
    assert "default_runtime_name = 'runc'" in after


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("version = [", "config.toml"),
        ("version = 1\n", "version"),
        ("version = 3\nplugins = {'io.containerd.nri.v1.nri' = {disable = true}}\n", "config.toml: plugins."),
        ("oom_score = -999\n", "version"),
    ],
)
def test_setup_refuses_what_it_cannot_edit(text, path):
    with pytest.raises(InvalidInput) as caught:
        containerd.setup(text)
    assert caught.value.path.startswith(path)


def test_imported_files_count(tmp_path):
    put(tmp_path / "config.toml", "version = 3\nimports = ['conf.d/*.toml']")
    put(tmp_path / "conf.d/a.toml", "[plugins.'io.containerd.cri.v1.runtime']\ndisable_hugetlb_controller = false")
    assert read_runtime(tmp_path / "config.toml").hugetlb_disabled is False
    assert read_runtime(tmp_path / "absent.toml") is None


def test_facts_are_read_below_a_root(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    put(tmp_path / "proc/self/mountinfo", f"{ROOT}\n{V2}")
    put(tmp_path / "sys/fs/cgroup/cgroup.controllers", "cpuset memory hugetlb")
    put(tmp_path / "etc/config.toml", containerd.setup(""))
    facts = read_facts(tmp_path, containerd=tmp_path / "etc/config.toml")
    assert worst(findings(facts)) is Verdict.PASS
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").unlink()
    assert worst(findings(read_facts(tmp_path))) is Verdict.REFUSED


def test_P_a_configuration_that_cannot_be_understood_is_said(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    put(tmp_path / "config.toml", "version = 1")
    found = {finding.check: finding for finding in findings(read_facts(tmp_path, containerd=tmp_path / "config.toml"))}
    assert found[Check.RUNTIME_HUGETLB].verdict is Verdict.DEGRADED
    assert "version: expected 2 or 3" in found[Check.RUNTIME_HUGETLB].text


def test_a_node_without_numa_nodes_is_refused(tmp_path):
    facts = read_facts(tmp_path)
    found = {finding.check: finding for finding in findings(facts)}
    assert found[Check.TOPOLOGY].verdict is Verdict.REFUSED
