# SPDX-License-Identifier: Apache-2.0
"""The command `schedule`: where would this pod go, and what would it get?

Three forms. From files of the oldest generation (`-nodes`, `-claim`), from files of any other (`--pools`, `--pod`), and
against an API server (`-kubeconfig`), where `--bind` also does what was decided. Flags have one dash or two: the
prototype's documents write one.

Exit codes here differ from other commands, for scripts that ask whether a pod fits: 0 it does, 2 it does not, 1 for
everything that is wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from dynamic_memory.allocation.prototype.documents import Document
    from dynamic_memory.allocation.prototype.loader import Loader
    from dynamic_memory.allocation.prototype.outcomes import Decision

__all__ = ["LegacyCommand", "errors", "fail", "new_loader", "read_files", "schedule", "show"]

PLACED, FAILED, UNSCHEDULABLE = 0, 1, 2
MAX_DEVICES = 5_000_000
DASHES = "-" * 31
PROGRESS_AFTER = 1.0
"""Seconds that a command works in silence, and between two lines of progress."""


class _WrongUsage(click.UsageError):
    exit_code = FAILED


class LegacyCommand(click.Command):
    """A command whose usage errors exit with 1: 2 is an answer here."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with the exit code of usage errors changed."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _WrongUsage(error.message, error.ctx) from error


def fail(error: Exception) -> NoReturn:
    """End the command with an error in one line."""
    click.echo(f"dynamic-memory: {error}", err=True)
    raise click.exceptions.Exit(FAILED)


def _usage(message: str) -> NoReturn:
    raise _WrongUsage(message, click.get_current_context())


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turn expected failures into one line and exit code 1."""
    from dynamic_memory.errors import DynamicMemoryError  # noqa: PLC0415 - imported when a command runs

    try:
        yield
    except DynamicMemoryError as error:
        fail(error)
    except BrokenPipeError:
        # Whoever reads has enough; nothing may be written any more, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(FAILED) from None
    except (OSError, UnicodeDecodeError) as error:
        fail(error)
    except RecursionError:
        fail(ValueError("the input is nested too deeply"))
    except MemoryError:
        fail(ValueError("the input needs more memory than there is"))


class Progress:
    """A line on standard error now and then, if something takes long."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_AFTER

    def __call__(self, text: Callable[[], str]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_AFTER
            click.echo(text(), err=True)


_FILE = click.Path(path_type=Path, dir_okay=True)


@click.command(cls=LegacyCommand, epilog="Exit codes: 0 placed, 2 unschedulable, 1 anything that is wrong.")
@click.argument("pod_name", metavar="[POD]", required=False)
@click.option("-kubeconfig", "--kubeconfig", type=click.Path(path_type=Path), help="Ask an API server, not files.")
@click.option("-nodes", "--nodes", "nodes_file", type=_FILE, help="File of nodes (generation v0).")
@click.option("-claim", "--claim", "claim_file", type=_FILE, help="File with what a pod asks for (generation v0).")
@click.option("-pools", "--pools", "pools", type=_FILE, multiple=True, help="File or folder of pools or slices.")
@click.option("-classes", "--classes", "classes", type=_FILE, multiple=True, help="File or folder of classes.")
@click.option("-pod", "--pod", "pods", type=_FILE, multiple=True, help="File of the pod, and of what it refers to.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of the pod.")
@click.option("--bind", is_flag=True, help="With -kubeconfig: write the allocation, wait until it is ready, bind.")
@click.option("--timeout", default=600.0, show_default=True, help="With --bind: seconds to wait for conditions.")
@click.option("-v", "--verbose", is_flag=True, help="Show every option that was tried.")
@click.option("-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
@click.option("--strict", is_flag=True, help="Refuse what would have to be mended, instead of warning.")
@click.option("--legacy-exit", is_flag=True, help="Exit with 0 also if the pod does not fit.")
@click.option("--max-devices", default=MAX_DEVICES, show_default=True, help="Refuse input with more devices.")
def schedule(
    *,
    pod_name: str | None,
    kubeconfig: Path | None,
    nodes_file: Path | None,
    claim_file: Path | None,
    pools: tuple[Path, ...],
    classes: tuple[Path, ...],
    pods: tuple[Path, ...],
    namespace: str,
    bind: bool,
    timeout: float,
    verbose: bool,
    output: str,
    strict: bool,
    legacy_exit: bool,
    max_devices: int,
) -> None:
    """Decide which node a pod goes to and which devices its claims get.

    Nothing is written, unless --bind is given together with -kubeconfig; then only pods whose schedulerName is
    dynamic-memory are touched. No other allocator may work on the same pools at that time: two of them can give one
    device away twice.

    \b
    Example:
      dynamic-memory schedule --pools pools.yaml --classes classes.yaml --pod pod.yaml
      dynamic-memory schedule -nodes nodes.yaml -claim claim.yaml pod
      dynamic-memory schedule -kubeconfig kubeconfig my-pod --bind
    """
    forms = (kubeconfig is not None, nodes_file is not None or claim_file is not None, bool(pools or pods))
    if sum(forms) != 1:
        _usage("give either -kubeconfig FILE POD, or -nodes FILE -claim FILE pod, or --pools FILE --pod FILE")
    if bind and kubeconfig is None:
        _usage("--bind needs -kubeconfig")
    with errors():
        if nodes_file is not None or claim_file is not None:
            if nodes_file is None or claim_file is None or pod_name not in {"pod", None}:
                _usage("the form with -nodes needs -claim, and the word pod")
            placed = _v0(nodes_file, claim_file, verbose=verbose, output=output)
        elif kubeconfig is not None:
            if pod_name is None:
                _usage("the name of the pod is missing")
            from dynamic_memory.cli.schedule_cluster import Options, on_cluster  # noqa: PLC0415 - needs a client

            options = Options(namespace, pod_name, bind, timeout, verbose, strict)
            decision, note = on_cluster(kubeconfig, options)
            show(decision, verbose=verbose, output=output, note=note)
            placed = decision.node is not None and not decision.pending
        else:
            if not pods:
                _usage("--pod is missing")
            loader = new_loader(strict=strict, max_devices=max_devices)
            read_files(loader, (*classes, *pools, *pods))
            placed = _files(loader, pod_name, namespace, pods, verbose=verbose, output=output)
    raise click.exceptions.Exit(PLACED if placed or legacy_exit else UNSCHEDULABLE)


def new_loader(*, strict: bool, max_devices: int = MAX_DEVICES) -> Loader:
    """Return a loader that tells its warnings and its progress on standard error."""
    from dynamic_memory.allocation.prototype.loader import Loader  # noqa: PLC0415 - imported when a command runs

    progress = Progress()
    return Loader(
        strict=strict,
        warn=lambda line: click.echo(f"warning: {line}", err=True),
        progress=lambda count: progress(lambda: f"read {count} devices"),
        max_devices=max_devices,
    )


def read_files(loader: Loader, paths: Iterable[Path]) -> None:
    """Read files, and the YAML and JSON files of folders; `-` is standard input."""
    for path in dict.fromkeys(paths):
        if str(path) == "-":
            loader.read(sys.stdin, "standard input")
            continue
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml", ".json"})
        for file in files:
            with file.open(encoding="utf-8") as text:
                loader.read(text, str(file))


# --- v0


def _v0(nodes_file: Path, claim_file: Path, *, verbose: bool, output: str) -> bool:
    from dynamic_memory.allocation.prototype.loader import encode  # noqa: PLC0415 - imported when a command runs
    from dynamic_memory.allocation.prototype.v0 import Evaluator, read_claim, read_nodes, summary  # noqa: PLC0415

    nodes = []
    for file in sorted(nodes_file.glob("node*.yaml")) if nodes_file.is_dir() else [nodes_file]:
        with file.open(encoding="utf-8") as text:
            nodes += read_nodes(text, str(file))
    with claim_file.open(encoding="utf-8") as text:
        claim = read_claim(text, str(claim_file))
    results, best = Evaluator(claim).evaluate(nodes)
    if output != "text":
        document = encode(best) | {"score": best.score} if best is not None else None
        every = [encode(result) for result in results] if verbose else []
        _dump({"satisfied": best is not None, "node": document, **({"nodes": every} if verbose else {})}, output)
        return best is not None
    click.echo("succeeded in satisfying the claim" if best is not None else "failed to satisfy the claim")
    if best is not None:
        click.echo(DASHES)
        click.echo(_yaml(encode(best)) if verbose else summary(best))
    if verbose:
        for result in results:
            if not result.score:
                click.echo(DASHES)
                click.echo(summary(result))
    return best is not None


# --- all other generations


def _files(
    loader: Loader, name: str | None, namespace: str, files: tuple[Path, ...], *, verbose: bool, output: str
) -> bool:
    from dynamic_memory.allocation.prototype.schedule import Scheduler  # noqa: PLC0415 - imported when a command runs
    from dynamic_memory.errors import InvalidInput  # noqa: PLC0415

    world = loader.world
    found: list[Document] = [world.sources[key] for key in world.pods if name is None or key == (namespace, name)]
    if not found:
        shown = ", ".join(str(file) for file in files)
        raise InvalidInput(shown, "a pod" if name is None else f"pod {namespace}/{name}")
    progress = Progress()
    placed = True
    for pod in found:
        scheduler = Scheduler(
            world,
            lambda: str(uuid.uuid4()),
            verbose=verbose,
            progress=lambda done, every: progress(lambda: f"tried {done} of {every} nodes"),
        )
        decision = scheduler.place(pod)
        show(decision, verbose=verbose, output=output)
        placed = placed and decision.node is not None
        # The next pod of the file comes when this one has what it got.
        scheduler.commit(decision)
    return placed


def show(decision: Decision, *, verbose: bool, output: str, note: str = "") -> None:
    """Print a decision as text, YAML or JSON."""
    if output != "text":
        _dump(document(decision, verbose=verbose, note=note), output)
        return
    namespace, name = decision.pod
    for node in decision.nodes:
        click.echo(node.summary)
        if node.reason and node.failed:
            click.echo(f"  {node.reason}")
        for line in node.options if verbose else ():
            click.echo(f"  {line}")
        if verbose and node.counting is not None:
            click.echo(_indented(_yaml(node.counting)))
    click.echo(DASHES)
    if decision.node is None:
        click.echo(f"pod {namespace}/{name} is pending: {decision.pending or 'no node satisfies all its claims'}")
        return
    click.echo(f"pod {namespace}/{name}: node {decision.node}{f' ({note})' if note else ''}")
    for claim in decision.claims:
        state = "new" if claim.use.made else "allocated" if not claim.changed else "exists"
        click.echo(f"- claim {claim.name} ({claim.use.form}, {state})")
        for line in _devices(claim.status):
            click.echo(f"  - {line}")


def _devices(status: dict[str, Any]) -> Iterator[str]:
    from dynamic_memory.allocation.prototype.loader import encode  # noqa: PLC0415 - imported when a command runs

    plain = encode(status)
    for entry in plain.get("allocations", ()):
        if "deviceCount" in entry:
            yield f"{entry['devicePoolName']}: {entry['deviceCount']} devices"
            continue
        amounts = ", ".join(f"{part['name']} {part['allocation']}" for part in entry.get("allocations", ()))
        yield f"{entry['devicePoolName']}/{entry['deviceName']}{f' ({amounts})' if amounts else ''}"
    for entry in ((plain.get("allocation") or {}).get("devices") or {}).get("results", ()):
        amounts = ", ".join(f"{name} {amount}" for name, amount in entry.get("consumedCapacity", {}).items())
        place = f"{entry['driver']}/{entry['pool']}/{entry['device']}"
        yield f"{entry['request']}: {place}{f' ({amounts})' if amounts else ''}"


def document(decision: Decision, *, verbose: bool, note: str = "") -> dict[str, Any]:
    """Return a decision as plain data."""
    from dynamic_memory.allocation.prototype.loader import encode  # noqa: PLC0415 - imported when a command runs

    nodes = []
    for node in decision.nodes:
        entry: dict[str, Any] = {"nodeName": node.node, "score": node.score}
        if node.failed:
            entry["failedClaims"] = list(node.failed)
        if node.reason:
            entry["reason"] = node.reason
        if node.counting is not None:
            entry["deviceClaimResults"] = node.counting["deviceClaimResults"]
        if verbose:
            entry["options"] = list(node.options)
        nodes.append(entry)
    namespace, name = decision.pod
    claims = [
        {
            "name": claim.name,
            "namespace": namespace,
            "form": claim.use.form,
            "create": claim.use.made,
            "changed": claim.changed,
            "status": encode(claim.status),
        }
        for claim in decision.claims
    ]
    found: dict[str, Any] = {"pod": {"namespace": namespace, "name": name}, "nodeName": decision.node}
    if decision.pending:
        found["pending"] = decision.pending
    if note:
        found["note"] = note
    return {**found, "claims": claims, "nodes": nodes}


def _dump(data: Any, output: str) -> None:
    click.echo(json.dumps(data, indent=2) if output == "json" else f"---\n{_yaml(data)}")


def _yaml(data: Any) -> str:
    import yaml  # noqa: PLC0415 - only for this format

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - signature of yaml
            return True

    return str(yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)).rstrip()


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
