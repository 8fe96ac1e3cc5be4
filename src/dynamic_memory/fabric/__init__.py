# SPDX-License-Identifier: Apache-2.0
"""The Dynamic Memory Service: one gRPC interface in front of a memory fabric, its client, and its backends.

The service knows hosts, pool devices and shares; it knows nothing of Kubernetes but the names that it is configured
with. The fabric is the ledger: the service keeps no database of its own, and can be killed at any moment.

`model` and `errors` are what callers see, `interface` is what they code against, `client` speaks to a service over
gRPC. Inside a service, `service` holds the semantics without any transport, `server` puts gRPC, TLS and limits around
it, and `backends` reach the hardware, or simulate it.
"""

__all__: list[str] = []
