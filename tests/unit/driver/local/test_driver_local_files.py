# SPDX-License-Identifier: Apache-2.0
"""What containers are given of the node's own memory: CDI files over restarts and reboots, metadata of devices."""

from __future__ import annotations

import json
import uuid

import pytest
from tests.unit.driver.local_rig import local_claim, result, spec, text_of

from dynamic_memory.driver import cdi

pytestmark = pytest.mark.looptime


async def test_C1_C2_one_file_with_one_device_and_only_environment(rig):
    rig.driver.node.metadata = None
    ref = rig.add(local_claim(result(shareID="s1"), uid="0b7f7a8c-6f0a-4b0e-8f43-5b3b0a3f2c22"))
    await rig.prepare(ref)
    own = "bytes=536870912;numa=0;pool=n1/mem;device=numa0-4ki;share=s1"
    assert spec(rig, ref) == {
        "cdiVersion": "0.8.0",
        "kind": "dra.memory/claim",
        "devices": [
            {
                "name": f"claim-{ref.uid}",
                "containerEdits": {
                    "env": [
                        f"DRAMEMORY_{ref.uid}_NUMANodes=0",
                        f"DRAMEMORY_{ref.uid}_memory=numanode:0,size:512Mi",
                        "DYNAMIC_MEMORY_BYTES=536870912",
                        f"DYNAMIC_MEMORY_CLAIM_{ref.uid.replace('-', '_')}={own}",
                        "DYNAMIC_MEMORY_NUMA_NODES=0",
                        "DYNAMIC_MEMORY_POOL=n1/mem",
                        "DYNAMIC_MEMORY_SHARE_IDS=s1",
                        "DYNAMIC_MEMORY_SIMULATED=true",
                    ]
                },
            }
        ],
    }


async def test_C1_without_claims_there_is_no_file(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.unprepare(ref)
    assert rig.specs() == []


async def test_C5_a_file_that_is_corrupt_or_foreign_is_in_nobodys_way(rig):
    folder = rig.folder / "cdi"
    folder.mkdir(exist_ok=True)
    (folder / "vendor.json").write_text("{")
    broken = rig.add(local_claim(name="a"))
    (folder / f"dra.memory-claim-{broken.uid}.json").write_text("{ not json")
    await rig.prepare(rig.add(local_claim(name="b", pods=("p2",))))
    await rig.prepare(broken)
    assert spec(rig, broken)["devices"]
    assert (folder / "vendor.json").read_text() == "{"


async def test_C6_after_a_reboot_the_files_are_there_before_the_kubelet_is_served(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    text = (rig.folder / "cdi" / rig.specs()[0]).read_text()
    await rig.stop()
    for path in (rig.folder / "cdi").iterdir():
        path.unlink()
    rig.host.boot = "another"
    await rig.start()
    registered = next(step for step in rig.order if step.startswith("registered"))
    assert f"dra.memory-claim-{ref.uid}.json" in registered
    assert (rig.folder / "cdi" / rig.specs()[0]).read_text() == text


async def test_C6_a_lost_file_comes_back_by_itself(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    await rig.start()  # within the test, whose time is virtual
    (rig.folder / "cdi" / rig.specs()[0]).unlink()
    await rig.until(rig.specs, seconds=70)


async def test_C6_files_of_nobody_are_pruned(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    (rig.folder / "cdi/dra.memory-claim-gone.json").write_text("{}")
    (rig.folder / "cdi/other.json").write_text("{}")
    await rig.start()
    assert rig.specs() == [f"dra.memory-claim-{ref.uid}.json", "other.json"]


@pytest.mark.parametrize(
    ("kubelet", "kept"), [("knows", True), ("forgot", False), ("unreadable", True)], ids=["known", "unknown", "no-file"]
)
async def test_C6_a_record_goes_when_neither_cluster_nor_kubelet_knows_the_claim(rig, kubelet, kept):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    rig.api.delete_claim("near")
    (rig.folder / "k").mkdir()
    state = {"Data": json.dumps({"Entries": [{"ClaimUID": ref.uid if kubelet == "knows" else str(uuid.uuid4())}]})}
    if kubelet != "unreadable":
        (rig.folder / "k/dra_manager_state").write_text(json.dumps(state))
    await rig.start()
    assert (rig.record(ref) is not None) is kept
    assert bool(rig.specs()) is kept


@pytest.mark.parametrize("refuses", ["prune", "remove", "found"])
async def test_C6_a_folder_that_can_only_be_read_does_not_keep_a_driver_from_leading(rig, monkeypatch, refuses):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    rig.api.delete_claim("near")
    (rig.folder / "k").mkdir()
    (rig.folder / "k/dra_manager_state").write_text("{}")

    def read_only(*_arguments):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(cdi.Specs, refuses, read_only)
        await rig.start()
        assert rig.driver.node.active
        assert (rig.record(ref) is None) is (refuses != "remove"), "what a container could still start with is taken"
    await rig.stop()
    await rig.start()
    assert rig.record(ref) is None
    assert rig.specs() == []


async def test_C6_a_record_stays_as_long_as_the_claim_is_allocated_here(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    (rig.folder / "k").mkdir()
    (rig.folder / "k/dra_manager_state").write_text("{}")
    await rig.start()
    assert rig.record(ref) is not None


async def test_devices_are_described_to_the_container(rig):
    ref = rig.add(local_claim(result(), result(device="numa2-4ki")))
    await rig.prepare(ref)
    (mount,) = spec(rig, ref)["devices"][0]["containerEdits"]["mounts"]
    assert mount["containerPath"] == (
        "/var/run/kubernetes.io/dra-device-attributes/resourceclaims/near/mem/dra.memory-metadata.json"
    )
    assert "ro" in mount["options"]
    lines = [json.loads(line) for line in text_of(mount["hostPath"]).splitlines()]
    assert [line["apiVersion"] for line in lines] == [
        "metadata.resource.k8s.io/v1beta1",
        "metadata.resource.k8s.io/v1alpha1",
    ]
    assert lines[0]["kind"] == "DeviceMetadata"
    assert lines[0]["metadata"]["uid"] == ref.uid
    (request,) = lines[0]["requests"]
    assert [device["name"] for device in request["devices"]] == ["numa0-4ki", "numa2-4ki"]
    assert request["devices"][1]["attributes"]["resource.kubernetes.io/numaNode"] == {"int": 2}
    await rig.unprepare(ref)
    assert list((rig.folder / "metadata").iterdir()) == []


async def test_devices_of_a_template_are_described_under_the_pods_name_for_the_claim(rig):
    marks = {"resource.kubernetes.io/pod-claim-name": "mem"}
    ref = rig.add(local_claim(annotations=marks, owner="p1"))
    await rig.prepare(ref)
    (mount,) = spec(rig, ref)["devices"][0]["containerEdits"]["mounts"]
    assert "/resourceclaimtemplates/mem/mem/" in mount["containerPath"]
    assert json.loads(text_of(mount["hostPath"]).splitlines()[0])["podClaimName"] == "mem"
