# SPDX-License-Identifier: Apache-2.0
"""The command `dynamic-memory`: one module a group, imported only when its command is called.

Starting a role must not pay for the imports of another, and `--help` has to answer at once; so this module knows the
commands by name and one line of help, and nothing else.

Exit codes, for every command: 0 it worked; 1 it failed; 2 the command line or a configuration file is wrong.
"""

from __future__ import annotations

import sys

import click

from dynamic_memory import __version__
from dynamic_memory.cli.lazy import Entry, LazyGroup

__all__ = ["cli", "main"]

COMMANDS = {
    "service": Entry("dynamic_memory.cli.roles:service", "Run the Dynamic Memory Service in front of one fabric."),
    "controller": Entry("dynamic_memory.cli.roles:controller", "Run the controller: pools, orphans, certificates."),
    "driver": Entry("dynamic_memory.cli.roles:driver", "Run the DRA driver of one node."),
    "updater": Entry("dynamic_memory.cli.roles:updater", "Run the node capacity updater of one node."),
    "fabric": Entry("dynamic_memory.cli.fabric:fabric", "Ask the Dynamic Memory Service: capacity, extents, release."),
    "schedule": Entry("dynamic_memory.cli.schedule:schedule", "Say where a pod would go, and with which devices."),
    "gen": Entry("dynamic_memory.cli.gen:gen", "Print sample capacity: pools of devices, slices of memory."),
    "convert": Entry("dynamic_memory.cli.convert:convert", "Turn objects of the prototype into resource.k8s.io/v1."),
    "demo": Entry("dynamic_memory.cli.demo:demo", "Show the main job on a cluster in this process, in seconds."),
    "up": Entry("dynamic_memory.cli.up:up", "Run a whole simulated cluster in one process."),
    "apiserver": Entry(
        "dynamic_memory.cli.apiserver:apiserver", "Run an API server that kubectl takes for a real one."
    ),
    "hugepages": Entry("dynamic_memory.cli.node:hugepages", "Provision huge pages of this node."),
    "inspect": Entry("dynamic_memory.cli.node:inspect", "Print the memory of this node as YAML."),
    "validate": Entry("dynamic_memory.cli.node:validate", "Check that claims of this node's memory can be enforced."),
    "manifests": Entry("dynamic_memory.cli.node:manifests", "Print the DeviceClasses for this machine's pages."),
    "cgroups": Entry("dynamic_memory.cli.node:cgroups", "Show limits of memory and huge pages, and what hit them."),
    "setup-runtime": Entry("dynamic_memory.cli.node:setup_runtime", "Turn on in containerd what claims need."),
    "memtest": Entry("dynamic_memory.cli.node:memtest", "Allocate memory and tell where its pages are."),
    "certificates": Entry("dynamic_memory.cli.certificates:certificates", "Obtain and renew a role's certificate."),
}


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 it worked, 1 it failed, 2 the command line or a configuration file is wrong.",
)
@click.version_option(__version__, prog_name="dynamic-memory")
def cli() -> None:
    """Elastic memory for Kubernetes: CXL fabric memory, given to pods by claim.

    \b
    Example:
      dynamic-memory driver --config /etc/dynamic-memory/driver.yaml
    """


def main() -> int:
    """Run the command line and return the exit code; an expected failure is one line on standard error."""
    from dynamic_memory.errors import DynamicMemoryError, InvalidInput  # noqa: PLC0415 - `--help` needs neither

    try:
        result = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        print("interrupted", file=sys.stderr)  # noqa: T201 - a command line prints
        return 130
    except InvalidInput as error:
        print(f"dynamic-memory: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except DynamicMemoryError as error:
        print(f"dynamic-memory: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return result if isinstance(result, int) else 0
