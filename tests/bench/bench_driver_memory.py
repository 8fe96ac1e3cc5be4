# SPDX-License-Identifier: Apache-2.0
"""How much memory a whole driver takes: the process that `dynamic-memory driver` is on a node, with all that it serves.

    python -m tests.bench.bench_driver_memory [--claims 100] [--containers 12000]

API server and Dynamic Memory Service are processes beside it, both with TLS; kubelet and container runtime are this
one. The driver has the fabric, the node's own memory and NRI, and the environment of its DaemonSet. It is started once
to compile its modules, as the image's are, then measured: when it is ready; with claims prepared, ten at a time, one
half of the fabric, the other of the node's own memory; after a Synchronize of 110 pods of three containers, which makes
the node full; and of very many. Prints resident memory and its parts, in MB of 10^6 bytes: anonymous memory, which is
what the driver costs a node, and pages of files, which all processes of the image share and the kernel may take back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.deployed import environment
from tests.support.fake_kubelet import FakeKubelet
from tests.support.machine import GIB, MIB, Node, build, put
from tests.support.nri_runtime import Runtime, container, pod
from tests.support.ports import free_port
from tests.unit.driver.conftest import allocation, claim_body
from tests.unit.driver.local_rig import local_claim, pod_body, result

from dynamic_memory.api.kinds import NAMESPACES, NODES, PODS, RESOURCE_CLAIMS
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.kube.client import Client
from dynamic_memory.nri.proto import nri_pb2 as pb
from dynamic_memory.process import clock

GOAL = 60
FULL = 330
PARTS = ("VmRSS", "RssAnon", "RssFile", "RssShmem")
SECONDS = 60.0
EXTENT = 128 * MIB


def resident(pid: int) -> dict[str, int]:
    """Resident memory of a process and its parts, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {part: int(found[part][0]) * 1024 for part in PARTS} | {"Threads": int(found["Threads"][0])}


@contextlib.asynccontextmanager
async def command(folder: Path, role: str, *arguments: str) -> AsyncIterator[int]:
    """Run a command of `dynamic-memory` until the context closes; its process id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dynamic_memory", role, *arguments),
        env=environment(role, folder / "compiled"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        assert await process.wait() == 0, role


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(SECONDS):
        while not await condition():
            await clock.sleep(0.05)


async def ready(port: int) -> bool:
    """Tell whether the driver says that it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    await reader.read()
    writer.close()
    await writer.wait_closed()
    return b" 200 " in line


def write_service(folder: Path, port: int, claims: int) -> Path:
    """The service's configuration: one device and one host, large enough for all claims."""
    size = (claims + 1) * EXTENT
    tls = {"ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}
    domain = {
        "name": "rack-1",
        "extentSize": EXTENT,
        "blockSize": EXTENT,
        "devices": [{"name": "cxl0", "size": size}],
        "hosts": [{"name": "h1", "device": "port0", "window": size, "maxExtents": claims + 1}],
    }
    path = folder / "service.yaml"
    body = {
        "listen": f"127.0.0.1:{port}",
        "tls": {name: str(folder / "service" / file) for name, file in tls.items()},
        "owners": [{"name": "c1", "nodes": {"n1": "h1"}, "pools": ["fabric/rack-1"]}],
        "backend": {"simulated": {"state": str(folder / "fabric.json"), "domains": [domain]}},
        "health": None,
    }
    path.write_text(json.dumps(body))
    return path


def write_driver(folder: Path, fabric: int, health: int) -> Path:
    """The driver's configuration, as deploy/40-config.yaml has it."""
    root = build(folder / "machine", [Node(0, 64 * GIB, pools={2 * MIB: 4096}), Node(1, 64 * GIB)])
    put(root / "proc/sys/kernel/random/boot_id", "a-boot")
    path = folder / "driver.yaml"
    body = {
        "owner": "c1",
        "nodeName": "n1",
        "podUid": "",
        "health": f"127.0.0.1:{health}",
        "kubeconfig": str(folder / "kubeconfig"),
        "kubeletRoot": str(folder / "k"),
        "cdiDir": str(folder / "cdi"),
        "stateDir": str(folder / "state"),
        "fabric": {"address": f"127.0.0.1:{fabric}", "tls": str(folder / "driver")},
        "host": {"simulated": {"root": str(folder / "host"), "blockSize": EXTENT}},
        "local": {"root": str(root), "preflight": "off", "nodeAllocatable": "off"},
        "nri": {"socket": str(folder / "nri.sock")},
    }
    path.write_text(json.dumps(body))
    return path


async def claim(kube: Client, number: int) -> tuple[str, str, str]:
    """Write an allocated claim and its pod; every other one is of the fabric."""
    name = f"claim-{number}"
    made = claim_body(name) if number % 2 else local_claim(result(size="128Mi"), name=name)
    body = made | {"metadata": {"name": name, "namespace": "app"}}
    await kube.create(RESOURCE_CLAIMS, {key: body[key] for key in ("metadata", "spec")})
    running = pod_body(f"pod-{number}", claims={"mem": name})
    del running["metadata"]["uid"]
    owner = await kube.create(PODS, {key: running[key] for key in ("metadata", "spec")})
    status = allocation(size="128Mi") if number % 2 else made["status"]
    status["reservedFor"] = [{"resource": "pods", "name": owner.metadata.name, "uid": owner.metadata.uid}]
    written = await kube.patch(
        RESOURCE_CLAIMS, name, {"status": status}, namespace="app", style="merge", subresource="status"
    )
    return "app", name, written.metadata.uid


def report(when: str, pid: int) -> float:
    """Print one line; return resident memory, MB."""
    found = resident(pid)
    whole, anonymous, files, shared = (found[part] / 1e6 for part in PARTS)
    print(
        f"{when:44} {whole:5.1f} MB   anonymous {anonymous:5.1f}   of files {files + shared:5.1f}   "
        f"threads {found['Threads']}",
        flush=True,
    )
    return whole


async def measure(folder: Path, claims: int, most: int) -> float:
    """Run it; what a full node takes, MB."""
    authority, port, health = Authority(), free_port(), free_port()
    authority.issue(folder / "service", Identity.role("c1", "service"), server=True)
    authority.issue(folder / "driver", Identity.node("c1", "n1"))
    kubeconfig = folder / "kubeconfig"
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            command(folder, "apiserver", "--port=0", "--tls", f"--kubeconfig={kubeconfig}", "--log-level=error")
        )
        service = str(write_service(folder, port, claims))
        await stack.enter_async_context(command(folder, "service", "--config", service, "--log-level=error"))
        await until(lambda: asyncio.to_thread(kubeconfig.exists))
        kube = Client.from_environment(str(kubeconfig))
        stack.push_async_callback(kube.close)
        await kube.create(NAMESPACES, {"metadata": {"name": "app"}})
        await kube.create(NODES, {"metadata": {"name": "n1"}})
        runtime = await stack.enter_async_context(Runtime(folder / "nri.sock"))
        driver = str(write_driver(folder, port, health))

        @contextlib.asynccontextmanager
        async def started() -> AsyncIterator[tuple[int, FakeKubelet]]:
            kubelet = FakeKubelet(folder / "k/plugins_registry")
            async with command(folder, "driver", "--config", driver, "--log-format=json") as pid:
                await kubelet.register(SECONDS)
                await runtime.plugin(SECONDS)
                await until(lambda: ready(health))
                yield pid, kubelet

        async with started():
            pass  # its modules are compiled by now
        pid, kubelet = await stack.enter_async_context(started())
        report("ready", pid)
        one_of_ten = asyncio.Semaphore(10)

        async def prepare(number: int) -> None:
            async with one_of_ten, asyncio.timeout(SECONDS):
                made = await claim(kube, number)
                # as a kubelet does: what is still being attached is asked for again
                while (await kubelet.prepare(made))[made[2]].error:
                    await clock.sleep(0.5)

        await asyncio.gather(*(prepare(number) for number in range(claims)))
        report(f"{claims} claims prepared", pid)
        full = await synchronized(runtime, FULL, pid)
        if most > FULL:
            await synchronized(runtime, most, pid)
        return full


async def synchronized(runtime: Runtime, containers: int, pid: int) -> float:
    """Have the plugin connect again, to a runtime that has so many containers."""
    pods = containers // 3
    parents = [pb.LinuxPodSandbox(cgroup_parent=f"/kubepods/burstable/podp{number}") for number in range(pods)]
    runtime.pods = [pod(f"p{number}", linux=parent) for number, parent in enumerate(parents)]
    runtime.containers = [container(f"c{n}", f"sandbox-p{n % pods}") for n in range(containers)]
    await runtime.connections[-1].close()
    await runtime.plugin(SECONDS)
    return report(f"{containers} containers synchronized", pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=int, default=100, help="of a full node; a kubelet takes 110 pods")
    parser.add_argument("--containers", type=int, default=12_000, help="of the last look, far beyond a full node")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        full = asyncio.run(measure(Path(folder), arguments.claims, arguments.containers))
    print(f"{f'a full node / {GOAL} MB':44} x {full / GOAL:.2f}")


if __name__ == "__main__":
    main()
