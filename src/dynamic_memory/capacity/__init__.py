# SPDX-License-Identifier: Apache-2.0
"""The node capacity updater: makes what is online visible in the Node object, and usable by pods.

Pure: `ceiling` (how high the limit over all pods has to be), `status` (what the Node object shall say), `preflight`
(what is missing for pods to profit). Around them: `limits` (pods with claims), `lid` (the limit as it is, and the
record beside it), `updater` (the loop), `metrics`, `role` (all of it together).
"""

__all__: list[str] = []
