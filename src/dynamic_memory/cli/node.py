# SPDX-License-Identifier: Apache-2.0
"""Commands for the memory of one node: look at it, check it, provision it, set its runtime up, prove where pages are.

They read and write files of the kernel below `--root`, so that they can be tried on a tree of files.
"""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dynamic_memory.host.cgroup_tree import Amount, Cgroup
    from dynamic_memory.host.hugepages import Result, Step

__all__ = ["cgroups", "hugepages", "inspect", "manifests", "memtest", "setup_runtime", "validate"]

STDIO = "-"
STATE_DIR = "/var/lib/dynamic-memory/driver"
CONTAINERD = "/etc/containerd/config.toml"
PAUSE = 0.2
RESULT = ">>>::RESULT="

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default="/",
    show_default=True,
    help="Folder in which sys and proc are.",
)


# --- hugepages


@click.group()
def hugepages() -> None:
    """Provision huge pages of a running node.

    \b
    Example:
      dynamic-memory hugepages provision balanced.yaml
    """


@hugepages.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|-...")
@_root
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE_DIR,
    show_default=True,
    help="Records of the driver: pools are not made smaller than what claims hold.",
)
def provision(files: tuple[str, ...], root: Path, *, dry_run: bool, state_dir: Path) -> None:
    """Set pools of huge pages as HugePageProvision documents say.

    Without `node` the pages of a size are spread evenly over the nodes with processors; the rest goes to the first. A
    pool is not made smaller than what is in use. What the kernel could give is read back; if that is less than what was
    asked for the command ends with 1.

    \b
    Example:
      dynamic-memory hugepages provision --dry-run balanced.yaml
    """
    from dynamic_memory.host import hugepages as pools  # noqa: PLC0415 - imported when a command runs
    from dynamic_memory.host.topology import TopologyReader  # noqa: PLC0415
    from dynamic_memory.process.config import loads  # noqa: PLC0415

    missing = 0
    for name in files:
        document = loads(_read(name), pools.Provision, name="standard input" if name == STDIO else name)
        steps = pools.plan(document, TopologyReader(root).read(), _claimed(state_dir))
        title = document.metadata.name or name
        _note_default(document.spec.default_hugepages_size, root)
        if dry_run:
            _print_steps(f"{title} (dry run)", steps)
            continue
        try:
            results = pools.apply(root, steps, pause=lambda: time.sleep(PAUSE))
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
        _print_results(title, results)
        missing += sum(result.missing for result in results)
    if missing:
        raise click.ClickException(
            f"{missing} pages are missing: the kernel found no room for them; free memory, or reserve them at boot"
        )


def _read(name: str) -> bytes:
    if name == STDIO:
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from error


def _note_default(size: str, root: Path) -> None:
    """Say it if the kernel's default is another one: only a boot parameter changes that."""
    from dynamic_memory.host.hugepages import parse_size  # noqa: PLC0415
    from dynamic_memory.host.topology import TopologyReader  # noqa: PLC0415
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    found = TopologyReader(root).read()
    if size and parse_size(size, found.huge_pages, "spec.defaultHugepagesSize") != found.default_huge_page:
        now = format_bytes(found.default_huge_page or 0)
        click.echo(
            f"note: the kernel's default size is {now}; to change it boot with default_hugepagesz={size}", err=True
        )


def _claimed(state_dir: Path) -> dict[tuple[int, int], int]:
    """Return what the driver's records hold, by node and page."""
    import msgspec  # noqa: PLC0415

    from dynamic_memory.driver.records import ClaimRecord  # noqa: PLC0415

    held: dict[tuple[int, int], int] = {}
    for path in sorted((state_dir / "claims").glob("*.json")):
        try:
            record = msgspec.json.decode(path.read_bytes(), type=ClaimRecord)
        except (OSError, msgspec.DecodeError) as error:
            raise click.ClickException(f"{path}: not a record of the driver: {error}") from error
        for grant in record.local:
            if grant.page and grant.numa is not None:
                held[grant.numa, grant.page] = held.get((grant.numa, grant.page), 0) + grant.size
    return held


def _print_steps(title: str, steps: Iterable[Step]) -> None:
    from dynamic_memory.cli.output import table  # noqa: PLC0415
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    rows = [(str(s.node), format_bytes(s.page), str(s.before), str(s.after)) for s in steps]
    click.echo(f"{title}\n{table(('NODE', 'PAGE', 'BEFORE', 'AFTER'), rows)}")


def _print_results(title: str, results: Iterable[Result]) -> None:
    from dynamic_memory.cli.output import table  # noqa: PLC0415
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    rows = [
        (str(r.step.node), format_bytes(r.step.page), str(r.step.before), str(r.reached), str(r.missing))
        for r in results
    ]
    click.echo(f"{title}\n{table(('NODE', 'PAGE', 'BEFORE', 'AFTER', 'MISSING'), rows)}")


# --- inspect


@click.command()
@click.argument("what", type=click.Choice(["raw", "summary"]))
@_root
def inspect(what: str, root: Path) -> None:
    """Print the memory of this node as YAML: everything (raw), or what can be claimed (summary).

    \b
    Example:
      dynamic-memory inspect summary
    """
    import msgspec  # noqa: PLC0415
    import yaml  # noqa: PLC0415

    from dynamic_memory.driver.local_devices import local_devices  # noqa: PLC0415
    from dynamic_memory.host.node_facts import read_mounts  # noqa: PLC0415
    from dynamic_memory.host.topology import TopologyReader  # noqa: PLC0415
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    topology = TopologyReader(root).read()
    if what == "raw":
        data = msgspec.to_builtins({"topology": topology, "cgroups": read_mounts(root)}, str_keys=False)
    else:
        data = {
            "basePage": format_bytes(topology.base_page),
            "hugePages": [format_bytes(size) for size in topology.huge_pages],
            "cgroups": read_mounts(root).mode.value,
            "nodes": [
                {"node": node.id, "memory": format_bytes(node.total), "cpus": node.cpus, "distance": node.distance}
                for node in topology.nodes
            ],
            "devices": {
                name: format_bytes(device.size) for name, device in sorted(local_devices(topology, {}).items())
            },
        }
    click.echo(yaml.safe_dump(data, sort_keys=False), nl=False)


# --- validate


@click.command()
@_root
@click.option("--cgroup-root", help="Where cgroup version 2 is mounted, if it is at several places.")
@click.option(
    "--containerd-config",
    type=click.Path(path_type=Path),
    default=CONTAINERD,
    show_default=True,
    help="containerd's configuration.",
)
@click.option("--strict", is_flag=True, help="Fail for a degraded mode as well.")
def validate(root: Path, cgroup_root: str | None, containerd_config: Path, *, strict: bool) -> None:
    """Check that claims of this node's memory can be enforced: one line a check, 1 if something refuses.

    PASS is well. DEGRADED says what will not be enforced. REFUSED says why the driver refuses claims that need it, and
    how to mend it.

    \b
    Example:
      dynamic-memory validate
    """
    from dynamic_memory.host.node_facts import read_facts  # noqa: PLC0415
    from dynamic_memory.host.preflight import Verdict, findings, worst  # noqa: PLC0415

    found = findings(read_facts(root, cgroup_root=cgroup_root, containerd=containerd_config))
    for finding in found:
        click.echo(str(finding))
    verdict = worst(found)
    click.echo(f"{verdict}: this node is {_VERDICTS[verdict.value]}")
    if verdict is Verdict.REFUSED or (strict and verdict is not Verdict.PASS):
        sys.exit(1)


_VERDICTS = {
    "PASS": "fit for claims of its memory",
    "DEGRADED": "fit for claims of its memory, in a degraded mode",
    "REFUSED": "not fit for claims of its memory",
}


# --- manifests


@click.command()
@_root
def manifests(root: Path) -> None:
    """Print the DeviceClasses for the sizes of pages that this machine has.

    \b
    Example:
      dynamic-memory manifests | kubectl apply -f -
    """
    from dynamic_memory.cli.gen import print_objects  # noqa: PLC0415
    from dynamic_memory.driver.local_classes import device_classes  # noqa: PLC0415
    from dynamic_memory.host.topology import TopologyReader  # noqa: PLC0415

    print_objects(device_classes(TopologyReader(root).read()), "yaml")


# --- cgroups


@click.command()
@click.argument("path", default="/")
@click.option(
    "--cgroup-root",
    type=click.Path(path_type=Path, file_okay=False),
    default="/sys/fs/cgroup",
    show_default=True,
    help="Where cgroups are mounted.",
)
@click.option("--all", "everything", is_flag=True, help="Also cgroups without any limit.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def cgroups(path: str, cgroup_root: Path, *, everything: bool, output: str) -> None:
    """Show the tree of cgroups below PATH: limits of memory and huge pages, what is in use, how often a limit was hit.

    \b
    Example:
      dynamic-memory cgroups /kubepods.slice
    """
    from dynamic_memory.host.cgroup_tree import read_tree  # noqa: PLC0415

    tree = read_tree(cgroup_root, path)
    if tree is None:
        raise click.ClickException(f"{cgroup_root}: no cgroup {path}")
    if output == "json":
        import msgspec  # noqa: PLC0415

        click.echo(msgspec.json.encode(tree))
        return
    from dynamic_memory.cli.output import table  # noqa: PLC0415

    rows = [row for cgroup in tree.walk() for row in _rows(cgroup, tree.depth, everything=everything)]
    click.echo(table(("CGROUP", "RESOURCE", "RESERVED LIMIT", "LIMIT", "CURRENT", "FAILURES", "NODES"), rows))


def _rows(cgroup: Cgroup, base: int, *, everything: bool) -> Iterable[tuple[str, ...]]:
    name = "  " * (cgroup.depth - base) + (cgroup.path.rsplit("/", 1)[-1] or "/")
    shown = [amount for amount in cgroup.amounts if everything or amount.limited or amount.failures]
    if not shown and everything:
        yield (name, "", "", "", "", "", cgroup.mems)
    for number, amount in enumerate(shown):
        yield (name if number == 0 else "", *_amount(amount), cgroup.mems if number == 0 else "")


def _amount(amount: Amount) -> tuple[str, ...]:
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    def text(limit: int | None) -> str:
        return "max" if limit is None else format_bytes(limit)

    reserved = "" if amount.resource == "memory" else text(amount.reserved_limit)
    return (amount.resource, reserved, text(amount.limit), format_bytes(amount.current), str(amount.failures))


# --- setup-runtime


@click.command("setup-runtime")
@click.argument("config", default=CONTAINERD)
@click.option("--dry-run", is_flag=True, help="Print what would change; write nothing.")
def setup_runtime(config: str, *, dry_run: bool) -> None:
    """Turn on in containerd's configuration what claims need: NRI, CDI and the hugetlb controller.

    The file is edited line by line and keeps its comments; a second run changes nothing. With `-` the configuration is
    read from standard input and written to standard output. containerd has to be restarted afterwards.

    \b
    Example:
      dynamic-memory setup-runtime /etc/containerd/config.toml
    """
    from dynamic_memory.host.containerd import setup  # noqa: PLC0415
    from dynamic_memory.host.node_facts import read_text  # noqa: PLC0415
    from dynamic_memory.process import durable  # noqa: PLC0415

    path = Path(config)
    if config == STDIO:
        click.echo(setup(sys.stdin.read(), "standard input"), nl=False)
        return
    try:
        before = read_text(path) if path.exists() else ""
        after = setup(before, config)
        if after == before:
            click.echo(f"{config}: nothing to change")
            return
        click.echo("".join(_diff(before, after, config)), nl=False)
        if dry_run:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        durable.write(path, after.encode(), mode)
    except OSError as error:
        raise click.ClickException(f"{error.filename or config}: {error.strerror}") from error
    click.echo(f"{config}: written; restart containerd for it to count", err=True)


def _diff(before: str, after: str, name: str) -> Iterable[str]:
    return difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), name, name)


# --- memtest


def _size(_: click.Context, parameter: click.Parameter, value: str | None) -> int:
    from dynamic_memory.errors import InvalidInput  # noqa: PLC0415
    from dynamic_memory.quantity import parse_bytes  # noqa: PLC0415

    try:
        return parse_bytes(value) if value is not None else 0
    except InvalidInput as error:
        raise click.BadParameter(str(error), param=parameter) from error


def _numa(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if value not in {"any", "single"} and not all(part.isdecimal() for part in value.split(",")):
        raise click.BadParameter("any, single, or numbers of nodes such as 0,2", param=parameter)
    return value


@click.command()
@click.option("--size", required=True, callback=_size, help="Bytes to allocate: 480Mi.")
@click.option("--hugetlb", callback=_size, help="Size of a huge page: 2Mi; without it ordinary memory.")
@click.option("--numa", default="any", callback=_numa, show_default=True, help="any, single, or nodes such as 0,2.")
@click.option("--should-fail", is_flag=True, help="The allocation must be refused.")
@click.option("--hold", type=float, default=0.0, help="Seconds to stay afterwards.")
def memtest(*, size: int, hugetlb: int, numa: str, should_fail: bool, hold: float) -> None:
    """Allocate memory, touch every page, and tell where the kernel has put them: one line, `>>>::RESULT={…}`.

    Reasons: Succeeded, FailedAsExpected, UnexpectedSuccess, AllocationFailed, NUMAMismatch, CannotCheckNUMA.

    \b
    Example:
      dynamic-memory memtest --size 32Mi --hugetlb 2Mi --numa single
    """
    import msgspec  # noqa: PLC0415

    from dynamic_memory.host import memtest as tester  # noqa: PLC0415

    if size <= 0 or (hugetlb and size % hugetlb):
        raise click.UsageError("--size must be above 0, and a multiple of --hugetlb")
    outcome = tester.run(size, hugetlb, numa, should_fail=should_fail)
    click.echo(RESULT + msgspec.json.encode(outcome).decode())
    sys.stdout.flush()
    if hold > 0:
        time.sleep(hold)
    if not outcome.reason.good:
        sys.exit(1)
