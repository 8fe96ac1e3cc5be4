# SPDX-License-Identifier: Apache-2.0
"""The admission of the embedded API server: what the pipeline calls for each write.

`mutate` looks up the service account of a pod, then applies the MutatingAdmissionPolicies; `validate` asks the
ValidatingAdmissionPolicies. CEL is loaded when the first policy matches: a server starts without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dynamic_memory.embedded.apiserver.admission.accounts import Accounts
from dynamic_memory.embedded.apiserver.admission.index import Index
from dynamic_memory.embedded.apiserver.core import AdmissionRequest
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import Registry
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.embedded.apiserver.validation import complete

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.admission.evaluation import Default, Evaluation
    from dynamic_memory.embedded.apiserver.admission.mutating import MutatingPolicy
    from dynamic_memory.embedded.apiserver.admission.validating import ValidatingPolicy

__all__ = ["Policies"]


def _mutating(obj: Mapping[str, Any]) -> MutatingPolicy:
    from dynamic_memory.embedded.apiserver.admission.mutating import MutatingPolicy  # noqa: PLC0415 - CEL is slow to load

    return MutatingPolicy(obj)


def _validating(obj: Mapping[str, Any]) -> ValidatingPolicy:
    from dynamic_memory.embedded.apiserver.admission.validating import ValidatingPolicy  # noqa: PLC0415 - the same

    return ValidatingPolicy(obj)


class Policies:
    """See the module.

    Args:
        store: the objects.
        registry: what is served.
        default: fills in the defaults of a kind after a mutation.

    """

    def __init__(self, store: Store, registry: Registry, default: Default | None = None) -> None:
        self._store = store
        self._registry = registry
        self._default = default or complete
        self._mutating = Index(store, registry, "mutatingadmissionpolicies", _mutating)
        self._validating = Index(store, registry, "validatingadmissionpolicies", _validating)
        self._accounts = Accounts(store)
        self._evaluation: Evaluation | None = None

    @property
    def _evaluating(self) -> Evaluation:
        if self._evaluation is None:
            from dynamic_memory.embedded.apiserver.admission.evaluation import Evaluation  # noqa: PLC0415 - the same

            self._evaluation = Evaluation(self._store, self._registry, self._default)
        return self._evaluation

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Return the object as it shall become; the same one if nothing changes it.

        Raises:
            StatusError: a pod has no account, or a policy cannot be applied.

        """
        assert request.object is not None  # noqa: S101 - deletions are not mutated
        obj = self._accounts.admit(request, request.object)
        matches = self._mutating.matches(request)
        return self._evaluating.mutate(request, obj, matches) if matches else obj

    async def validate(self, request: AdmissionRequest) -> None:
        """Ask the policies; warnings, and annotations for the audit log, go to the request.

        Raises:
            StatusError: a policy does not allow it.

        """
        matches = self._validating.matches(request)
        if matches:
            self._evaluating.validate(request, matches)
