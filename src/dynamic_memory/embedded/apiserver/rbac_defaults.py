# SPDX-License-Identifier: Apache-2.0
"""The roles and bindings that every cluster has, as lines of text.

A role is a line without indentation: its name, which roles it selects and which select it. Its rules follow: verbs,
groups (`-` is the core, `!` none: paths), resources or paths, and names. Facts of the bootstrap policy of Kubernetes.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.rbac import GROUP

__all__ = ["default_objects"]

Object = dict[str, Any]

READ = "get,list,watch"
WRITE = "create,delete,deletecollection,patch,update"
ALL = "create,delete,deletecollection,get,list,patch,update,watch"
EVENTS = "create,patch,update -,events.k8s.io events"
AGGREGATE = f"{GROUP}/aggregate-to-"
DEFAULTS = {"kubernetes.io/bootstrapping": "rbac-defaults"}

ROLES = f"""\
cluster-admin
  * * *
  * ! *
admin select=admin
edit select=edit to=admin
view select=view to=edit
system:aggregate-to-admin to=admin
  create authorization.k8s.io localsubjectaccessreviews
  {ALL} {GROUP} rolebindings,roles
system:aggregate-to-edit to=edit
  {READ} - pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,services/proxy
  impersonate - serviceaccounts
  {WRITE} - pods,pods/attach,pods/exec,pods/portforward,pods/proxy
  create - pods/eviction
  {WRITE} - configmaps,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale
  {WRITE} - secrets,serviceaccounts,services,services/proxy
  create - serviceaccounts/token
  {WRITE} -,events.k8s.io events
  {WRITE} apps daemonsets,deployments,deployments/rollback,deployments/scale,replicasets,replicasets/scale
  {WRITE} apps statefulsets,statefulsets/scale
  {WRITE} autoscaling horizontalpodautoscalers
  {WRITE} batch cronjobs,jobs
  {WRITE} policy poddisruptionbudgets
  {WRITE} networking.k8s.io ingresses,networkpolicies
  {ALL} coordination.k8s.io leases
  {WRITE} resource.k8s.io resourceclaims,resourceclaimtemplates
system:aggregate-to-view to=view
  {READ} - configmaps,endpoints,persistentvolumeclaims,persistentvolumeclaims/status,pods,replicationcontrollers
  {READ} - replicationcontrollers/scale,serviceaccounts,services,services/status
  {READ} - bindings,limitranges,namespaces/status,pods/log,pods/status,replicationcontrollers/status
  {READ} - resourcequotas,resourcequotas/status
  {READ} - namespaces
  {READ} -,events.k8s.io events
  {READ} discovery.k8s.io endpointslices
  {READ} apps controllerrevisions,daemonsets,daemonsets/status,deployments,deployments/scale,deployments/status
  {READ} apps replicasets,replicasets/scale,replicasets/status,statefulsets,statefulsets/scale,statefulsets/status
  {READ} autoscaling horizontalpodautoscalers,horizontalpodautoscalers/status
  {READ} batch cronjobs,cronjobs/status,jobs,jobs/status
  {READ} policy poddisruptionbudgets,poddisruptionbudgets/status
  {READ} networking.k8s.io ingresses,ingresses/status,networkpolicies
  {READ} resource.k8s.io resourceclaims,resourceclaims/status,resourceclaimtemplates
system:auth-delegator
  create authentication.k8s.io tokenreviews
  create authorization.k8s.io subjectaccessreviews
system:basic-user
  create authorization.k8s.io selfsubjectaccessreviews,selfsubjectrulesreviews
  create authentication.k8s.io selfsubjectreviews
system:certificates.k8s.io:kube-apiserver-client-approver
  approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client
system:discovery
  get ! /api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,/version,/version/
system:kube-controller-manager
  {EVENTS}
  create coordination.k8s.io leases
  get,update coordination.k8s.io leases kube-controller-manager
  create - secrets,serviceaccounts
  delete - secrets
  get - configmaps,namespaces,secrets,serviceaccounts
  update - secrets,serviceaccounts
  create authentication.k8s.io tokenreviews
  create authorization.k8s.io subjectaccessreviews
  list,watch * *
  create - serviceaccounts/token
system:kube-scheduler
  {EVENTS}
  create coordination.k8s.io leases
  get,list,update,watch coordination.k8s.io leases kube-scheduler
  {READ} - nodes
  delete,get,list,watch - pods
  create - bindings,pods/binding
  patch,update - pods/status
  {READ} - replicationcontrollers,services
  {READ} apps replicasets,statefulsets
  {READ} policy poddisruptionbudgets
  {READ} - persistentvolumeclaims,persistentvolumes
  create authentication.k8s.io tokenreviews
  create authorization.k8s.io subjectaccessreviews
  {READ} storage.k8s.io csinodes,volumeattachments,csidrivers,csistoragecapacities
  {READ} - namespaces
  {READ} resource.k8s.io deviceclasses
  get,list,patch,update,watch resource.k8s.io resourceclaims
  get,list,patch,update,watch resource.k8s.io resourceclaims/status
  update - pods/finalizers
  {READ} resource.k8s.io resourceslices
  create,delete resource.k8s.io resourceclaims
  patch,update resource.k8s.io resourceclaims/binding
system:monitoring
  get ! /healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/slis,/readyz,/readyz/*
  get - nodes/metrics
system:node
  create authentication.k8s.io tokenreviews
  create authorization.k8s.io localsubjectaccessreviews,subjectaccessreviews
  {READ} - services
  create,{READ} - nodes
  patch,update - nodes/status
  patch,update - nodes
  {EVENTS}
  {READ} - pods
  create,delete - pods
  patch,update - pods/status
  create - pods/eviction
  {READ} - configmaps,secrets
  get - persistentvolumeclaims,persistentvolumes
  get - endpoints
  create,{READ} certificates.k8s.io certificatesigningrequests
  create,delete,get,patch,update coordination.k8s.io leases
  get storage.k8s.io volumeattachments
  create - serviceaccounts/token
  get,patch,update - persistentvolumeclaims/status
  {READ} storage.k8s.io csidrivers
  create,delete,get,patch,update storage.k8s.io csinodes
  {READ} node.k8s.io runtimeclasses
  get resource.k8s.io resourceclaims
  deletecollection resource.k8s.io resourceslices
  get - serviceaccounts
system:node-bootstrapper
  create,{READ} certificates.k8s.io certificatesigningrequests
system:node-proxier
  list,watch - endpoints,services
  {READ} - nodes
  {EVENTS}
  list,watch networking.k8s.io servicecidrs
  list,watch discovery.k8s.io endpointslices
system:public-info-viewer
  get ! /healthz,/livez,/readyz,/version,/version/
system:service-account-issuer-discovery
  get ! /.well-known/openid-configuration,/.well-known/openid-configuration/,/openid/v1/jwks,/openid/v1/jwks/
system:volume-scheduler
  get,list,patch,update,watch - persistentvolumes
  {READ} storage.k8s.io storageclasses
  get,list,patch,update,watch - persistentvolumeclaims
"""

# binding -> role, kinds and names of subjects
BINDINGS = """\
cluster-admin cluster-admin Group/system:masters
system:basic-user system:basic-user Group/system:authenticated
system:discovery system:discovery Group/system:authenticated
system:kube-controller-manager system:kube-controller-manager User/system:kube-controller-manager
system:kube-scheduler system:kube-scheduler User/system:kube-scheduler
system:monitoring system:monitoring Group/system:monitoring
system:node system:node
system:node-proxier system:node-proxier User/system:kube-proxy
system:public-info-viewer system:public-info-viewer Group/system:authenticated Group/system:unauthenticated
system:service-account-issuer-discovery system:service-account-issuer-discovery Group/system:serviceaccounts
system:volume-scheduler system:volume-scheduler User/system:kube-scheduler
"""


def default_objects() -> list[Object]:
    """Return the ClusterRoles and ClusterRoleBindings, in the order in which they are to be made."""
    return [*_roles(), *_bindings()]


def _metadata(name: str, **labels: str) -> Object:
    annotations = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    return {"name": name, "labels": {**DEFAULTS, **labels}, "annotations": annotations}


def _roles() -> list[Object]:
    found: list[Object] = []
    for line in ROLES.splitlines():
        if line.startswith(" "):
            found[-1]["rules"].append(_rule(*line.split()))
            continue
        name, *marks = line.split()
        options = dict(mark.split("=") for mark in marks)
        labels = {AGGREGATE + options["to"]: "true"} if "to" in options else {}
        role: Object = {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "metadata": _metadata(name, **labels)}
        if "select" in options:
            role["aggregationRule"] = {
                "clusterRoleSelectors": [{"matchLabels": {AGGREGATE + options["select"]: "true"}}]
            }
        role["rules"] = []
        found.append(role)
    return found


def _rule(verbs: str, groups: str, resources: str, names: str = "") -> Object:
    rule: Object = {"verbs": verbs.split(",")}
    if groups == "!":
        return {**rule, "nonResourceURLs": resources.split(",")}
    rule["apiGroups"] = ["" if group == "-" else group for group in groups.split(",")]
    rule["resources"] = resources.split(",")
    if names:
        rule["resourceNames"] = names.split(",")
    return rule


def _bindings() -> list[Object]:
    found: list[Object] = []
    for line in BINDINGS.splitlines():
        name, role, *subjects = line.split()
        entries = [
            {"apiGroup": GROUP, "kind": kind, "name": subject}
            for kind, _, subject in (entry.partition("/") for entry in subjects)
        ]
        binding: Object = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": _metadata(name),
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        }
        found.append({**binding, "subjects": entries} if entries else binding)
    return found
