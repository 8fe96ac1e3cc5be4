# SPDX-License-Identifier: Apache-2.0
"""Random cases for the allocator, in the JSON lines protocol; the seed decides everything.

The cases are small, so that a brute-force solver can follow, and crowded, so that pools run out, constraints bite and
requests have to be given up. Rare things (incomplete pools, two generations, expressions that fail, amounts beyond 64
bits) come with a probability of a few percent each, alone and together.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["EXPRESSIONS", "allocation_case", "cluster"]

DRIVER = "dra.memory"
OTHER = "gpu.example.com"
NODE = "node-1"
GIB = 2**30

DEFAULTS = (
    "AdminAccess",
    "ConsumableCapacity",
    "DeviceBindingAndStatus",
    "DeviceTaints",
    "PartitionableDevices",
    "PrioritizedList",
)
ALPHA = (
    "CompatibilityGroups",
    "DerivedAttributes",
    "FractionalCapacityRange",
    "ListTypeAttributes",
    "OptionalNodeOperations",
)

EXPRESSIONS = (
    'device.driver == "dra.memory"',
    'device.driver == "gpu.example.com"',
    'device.attributes["dra.memory"].kind == "local"',
    'device.attributes["dra.memory"].kind == "fabric"',
    'device.attributes["dra.memory"].numa <= 1',
    '"kind" in device.attributes["dra.memory"] && device.attributes["dra.memory"].kind != "window"',
    'device.capacity["dra.memory"].size.compareTo(quantity("2Gi")) >= 0',
    "device.allowMultipleAllocations",
    "!device.allowMultipleAllocations",
    "true",
)
BROKEN = ("device.nothing == 1", "1 +", 'device.driver == "x" ||', "device.driver")
SIZES = ("256Mi", "512Mi", "1Gi", "1536Mi", "2Gi", "3Gi", "4Gi")
QUANTITIES = (*SIZES, "1", "1k", "1500m", "0", "1.500", "3.5Gi", "700Mi", "1100Mi")
LABELS = {"rack": ("a", "b"), "tier": ("1", "2", "x")}


def allocation_case(seed: int, features: str | list[str] | None = "random") -> dict[str, Any]:
    """Return one question of kind "allocate"."""
    return _Maker(random.Random(seed), features).case(seed)


class _Maker:
    """Makes one case."""

    def __init__(self, rng: random.Random, features: str | list[str] | None) -> None:
        self.rng = rng
        if features == "random":
            features = self._some_features()
        self.features = features
        enabled = DEFAULTS if features is None else (*DEFAULTS, *ALPHA) if features == "all" else features
        self.enabled = frozenset(() if enabled == "none" else enabled)
        stable = {"AdminAccess", "DeviceTaints", "PartitionableDevices", "PrioritizedList"}
        # The stable allocator visits pools in no particular order: one pool, or results are not comparable.
        self.single = self.enabled <= stable

    def chance(self, percent: float) -> bool:
        return self.rng.random() * 100 < percent

    def on(self, feature: str) -> bool:
        """The feature is enabled, or, rarely, used all the same."""
        return feature in self.enabled or self.chance(1)

    def _some_features(self) -> str | list[str] | None:
        draw = self.rng.random()
        if draw < 0.5:
            return None
        if draw < 0.7:
            return "all"
        if draw < 0.75:
            return "none"
        every = (*DEFAULTS, *ALPHA)
        return sorted(self.rng.sample(every, self.rng.randint(1, len(every))))

    # --- what is there

    def case(self, seed: int) -> dict[str, Any]:
        node = {"metadata": {"name": NODE, "labels": {key: self.rng.choice(values) for key, values in LABELS.items()}}}
        if self.chance(50):
            node["status"] = {"declaredFeatures": ["DRAOptionalNodeOperations"]}
        self.devices: list[tuple[str, str, dict[str, Any]]] = []
        slices = [
            piece for number in range(1 if self.single else self.rng.randint(1, 3)) for piece in self.pool(number)
        ]
        if not self.single:
            self.rng.shuffle(slices)
        classes = [self.device_class(name) for name in ("memory", "any")]
        case: dict[str, Any] = {
            "id": seed,
            "kind": "allocate",
            "node": node,
            "classes": classes,
            "slices": slices,
            "allocatedClaims": self.allocated(),
            "claims": [self.claim(number) for number in range(self.rng.choice((1, 1, 1, 2, 2, 3)))],
        }
        if self.features is not None:
            case["features"] = self.features
        return case

    def device_class(self, name: str) -> dict[str, Any]:
        spec: dict[str, Any] = {}
        if name == "memory":
            spec["selectors"] = [{"cel": {"expression": EXPRESSIONS[0]}}]
        elif self.chance(20):
            spec["selectors"] = [self.selector()]
        if self.chance(30):
            spec["config"] = [self.config(f"class-{name}-{number}") for number in range(self.rng.randint(1, 2))]
        return {"metadata": {"name": name}, "spec": spec}

    def config(self, text: str) -> dict[str, Any]:
        return {"opaque": {"driver": DRIVER, "parameters": {"apiVersion": "v1", "kind": "Config", "text": text}}}

    def selector(self) -> dict[str, Any]:
        pool = BROKEN if self.chance(1) else EXPRESSIONS
        return {"cel": {"expression": self.rng.choice(pool)}}

    def pool(self, number: int) -> list[dict[str, Any]]:
        rng = self.rng
        driver = DRIVER if self.chance(90) else OTHER
        name = f"pool-{rng.choice('abcd')}{number}"
        count = rng.choice((1, 1, 2, 3))
        counters = self.on("PartitionableDevices") and self.chance(30)
        generation = rng.randint(1, 3)
        binding = self.on("DeviceBindingAndStatus") and self.chance(20)
        slices = []
        total = count + counters
        stated = total + (rng.choice((-1, 1)) if self.chance(4) and total > 1 else 0)
        head = {"driver": driver, "pool": {"name": name, "generation": generation, "resourceSliceCount": stated}}
        for index in range(count):
            spec: dict[str, Any] = {**head, **self.placement(counters=counters)}
            devices = [
                self.device(driver, f"dev-{index}-{place}", spec, counters=counters, binding=binding)
                for place in range(rng.randint(1, 3))
            ]
            if self.chance(2):
                devices.append({**devices[0]})
            spec["devices"] = devices
            slices.append(self.slice(number, index, spec))
            self.devices += ((driver, name, device) for device in devices)
        if counters:
            names = ("set-0", "set-0") if self.chance(2) else ("set-0", "set-1")
            sets = [
                {"name": own, "counters": {key: {"value": rng.choice(SIZES[2:])} for key in ("memory", "slots")}}
                for own in names
            ]
            spec = {**head, **self.placement(counters=True), "sharedCounters": sets}
            slices.append(self.slice(number, count, spec))
        if self.chance(5):
            extra = slices[rng.randrange(len(slices))]
            other = {**extra["spec"], "pool": {**head["pool"], "generation": generation + rng.choice((-1, 1))}}
            if self.chance(50):
                for key in ("nodeSelector", "allNodes", "perDeviceNodeSelection"):
                    other.pop(key, None)
                other["nodeName"] = "node-2"
            slices.append({"metadata": {"name": f"other-{number}"}, "spec": other})
        if self.chance(3):
            slices.pop(rng.randrange(len(slices)))
        return slices

    def slice(self, number: int, index: int, spec: dict[str, Any]) -> dict[str, Any]:
        # Names in an order of their own: it decides, not the order of the list.
        prefix = f"{index}" if self.single else self.rng.choice("xyz")
        return {"metadata": {"name": f"{prefix}-slice-{number}-{index}"}, "spec": spec}

    def placement(self, *, counters: bool) -> dict[str, Any]:
        draw = self.rng.random()
        if draw < 0.45 or (counters and draw < 0.5):
            return {"nodeName": NODE if self.chance(90) else "node-2"}
        if draw < 0.65:
            return {"allNodes": True}
        if draw < 0.9 or not self.on("PartitionableDevices"):
            return {"nodeSelector": self.node_selector()}
        return {"perDeviceNodeSelection": True}

    def node_selector(self) -> dict[str, Any]:
        rng = self.rng
        key = rng.choice(list(LABELS))
        draw = rng.random()
        if draw < 0.6:
            requirement = {"key": key, "operator": "In", "values": list(LABELS[key])}
        elif draw < 0.7:
            requirement = {"key": key, "operator": "NotIn", "values": ["b"]}
        elif draw < 0.8:
            requirement = {"key": key, "operator": rng.choice(("Exists", "DoesNotExist"))}
        elif draw < 0.9:
            requirement = {"key": "tier", "operator": rng.choice(("Gt", "Lt")), "values": ["1"]}
        else:
            fields = {"key": "metadata.name", "operator": rng.choice(("In", "NotIn")), "values": [NODE]}
            return {"nodeSelectorTerms": [{"matchFields": [fields]}]}
        if self.chance(1):
            requirement = {"key": key, "operator": "Is", "values": ["b"]}
        terms = [{"matchExpressions": [requirement]}]
        if self.chance(2):
            terms.append({"matchExpressions": [{"key": "tier", "operator": "Exists"}]})
        return {"nodeSelectorTerms": terms}

    def device(self, driver: str, name: str, spec: dict[str, Any], *, counters: bool, binding: bool) -> dict[str, Any]:
        rng = self.rng
        device: dict[str, Any] = {"name": name, "attributes": self.attributes(driver)}
        multi = self.on("ConsumableCapacity") and self.chance(50)
        if multi:
            device["allowMultipleAllocations"] = True
        elif self.chance(5):
            device["allowMultipleAllocations"] = False
        if self.chance(80):
            device["capacity"] = {
                key: self.capacity(multi=multi) for key in ("size", "extents")[: rng.choice((1, 1, 2))]
            }
        if counters and self.chance(70):
            device["consumesCounters"] = [
                self.consumption(own) for own in rng.sample(("set-0", "set-1"), rng.choice((1, 1, 2)))
            ]
        if spec.get("perDeviceNodeSelection"):
            draw = rng.random()
            if draw < 0.5:
                device["nodeName"] = rng.choice((NODE, NODE, "node-2"))
            elif draw < 0.75:
                device["allNodes"] = True
            else:
                device["nodeSelector"] = self.node_selector()
        if self.chance(15):
            device["taints"] = [
                {"key": rng.choice("kl"), "value": rng.choice("vw"), "effect": effect}
                for effect in rng.sample(("NoSchedule", "NoExecute", "None"), rng.randint(1, 2))
            ]
        if binding and self.chance(70):
            device["bindingConditions"] = ["dynamicmemory.dev/Attached"]
            device["bindingFailureConditions"] = ["dynamicmemory.dev/AttachFailed"]
            if self.chance(50):
                device["bindsToNode"] = True
        if self.chance(3):
            spec["skipNodeOperations"] = ["*"]
        return device

    def attributes(self, driver: str) -> dict[str, Any]:
        rng = self.rng
        domain = "" if self.chance(70) else f"{driver}/"
        found: dict[str, Any] = {f"{domain}kind": {"string": rng.choice(("local", "local", "fabric", "window"))}}
        if self.chance(95):
            found[f"{domain}numa"] = {"int": rng.randint(0, 3)}
        if self.chance(75):
            found["dra.memory/fabricDomain"] = {"string": rng.choice(("rack-a", "rack-b"))}
        if self.chance(15):
            found["example.com/version"] = {"version": rng.choice(("1.2.3", "1.2.4"))}
        if self.chance(15):
            found["example.com/flag"] = {"bool": self.chance(50)}
        if self.on("ListTypeAttributes") and self.chance(40):
            found["example.com/zones"] = rng.choice(
                ({"strings": rng.sample(("a", "b", "c"), 2)}, {"ints": [1, 2]}, {"string": "a"}, {"bools": [True]})
            )
        if not self.chance(98):
            found.pop(f"{domain}kind")
        return found

    def capacity(self, *, multi: bool) -> dict[str, Any]:
        rng = self.rng
        value = rng.choice(SIZES[2:]) if self.chance(95) else rng.choice(QUANTITIES)
        found: dict[str, Any] = {"value": value}
        if not multi or self.chance(40):
            return found
        draw = rng.random()
        policy: dict[str, Any] = {"default": rng.choice(("256Mi", "512Mi", "1Gi"))}
        if draw < 0.5:
            span: dict[str, Any] = {"min": rng.choice(("256Mi", "512Mi"))}
            if self.chance(60):
                span["step"] = rng.choice(("256Mi", "128Mi", "300M", "1Mi"))
            if self.chance(50):
                span["max"] = rng.choice(("1Gi", "2Gi", value))
            policy["validRange"] = span
        elif draw < 0.8:
            policy["validValues"] = sorted(rng.sample(SIZES, 3), key=SIZES.index)
        found["requestPolicy"] = policy
        if self.chance(1):
            found["requestPolicy"]["default"] = "-1Gi"
        return found

    def consumption(self, counter_set: str) -> dict[str, Any]:
        rng = self.rng
        name = "set-9" if self.chance(1) else counter_set
        keys = ("memory", "slots") if self.chance(50) else (rng.choice(("memory", "slots")),)
        found: dict[str, Any] = {
            "counterSet": name,
            "counters": {key: {"value": rng.choice(SIZES[:5])} for key in keys},
        }
        if self.on("CompatibilityGroups") and self.chance(40):
            found["compatibilityGroups"] = rng.sample(("g1", "g2", "g3"), rng.randint(1, 2))
        return found

    # --- who has it

    def allocated(self) -> list[dict[str, Any]]:
        claims = []
        for number in range(self.rng.choice((0, 0, 1, 2, 3))):
            if not self.devices:
                break
            driver, pool, device = self.rng.choice(self.devices)
            result: dict[str, Any] = {"request": "r", "driver": driver, "pool": pool, "device": device["name"]}
            if device.get("allowMultipleAllocations"):
                result["shareID"] = f"00000000-0000-4000-8000-{number:012d}"
                if self.chance(90):
                    result["consumedCapacity"] = {
                        key: self.rng.choice(("512Mi", "1Gi", "256Mi")) for key in device.get("capacity", {})
                    }
            if self.chance(10):
                result["adminAccess"] = True
            claims.append(
                {
                    "metadata": {"name": f"old-{number}", "namespace": "default", "uid": f"old-{number}"},
                    "spec": {},
                    "status": {"allocation": {"devices": {"results": [result]}}},
                }
            )
        return claims

    # --- what is wanted

    def claim(self, number: int) -> dict[str, Any]:
        rng = self.rng
        requests = [self.request(f"r{index}") for index in range(rng.choice((1, 1, 1, 2, 2, 3)))]
        names = [request["name"] for request in requests]
        names += [
            f"{request['name']}/{sub['name']}" for request in requests for sub in request.get("firstAvailable", ())
        ]
        devices: dict[str, Any] = {"requests": requests}
        if self.chance(30):
            devices["constraints"] = [self.constraint(names) for _ in range(rng.choice((1, 1, 2)))]
        if self.chance(25):
            devices["config"] = [
                {**self.config(f"claim-{index}"), **({"requests": self.some(names)} if self.chance(70) else {})}
                for index in range(rng.randint(1, 2))
            ]
        return {"metadata": {"name": f"claim-{number}", "namespace": "default"}, "spec": {"devices": devices}}

    def some(self, names: list[str]) -> list[str]:
        return self.rng.sample(names, self.rng.randint(1, len(names)))

    def constraint(self, names: list[str]) -> dict[str, Any]:
        rng = self.rng
        attribute = rng.choice(
            (
                "dra.memory/fabricDomain",
                "dra.memory/fabricDomain",
                "dra.memory/numa",
                "dra.memory/kind",
                "example.com/zones",
                "example.com/derived",
            )
        )
        distinct = self.on("ConsumableCapacity") and self.chance(30)
        found: dict[str, Any] = {"distinctAttribute" if distinct else "matchAttribute": attribute}
        if self.chance(50):
            found["requests"] = self.some(names)
        return found

    def request(self, name: str) -> dict[str, Any]:
        if self.on("PrioritizedList") and self.chance(20):
            options = [{"name": f"s{index}", **self.body(admin=False)} for index in range(self.rng.randint(1, 3))]
            return {"name": name, "firstAvailable": options}
        return {"name": name, "exactly": self.body(admin=True)}

    def body(self, *, admin: bool) -> dict[str, Any]:
        rng = self.rng
        found: dict[str, Any] = {"deviceClassName": rng.choice(("memory", "memory", "any"))}
        if self.chance(0.5):
            found["deviceClassName"] = "missing"
        if self.chance(30):
            found["selectors"] = [self.selector() for _ in range(rng.choice((1, 1, 2)))]
        if self.chance(12):
            found["allocationMode"] = "All"
        else:
            found["allocationMode"] = "ExactCount"
            found["count"] = rng.choice((1, 1, 1, 1, 1, 2, 3)) if self.chance(99) else rng.choice((8, 20, 33))
        if admin and self.on("AdminAccess") and self.chance(6):
            found["adminAccess"] = self.chance(85)
        if self.on("DeviceTaints") and self.chance(30):
            found["tolerations"] = [
                rng.choice(
                    (
                        {"operator": "Exists"},
                        {"key": "k", "operator": "Exists"},
                        {"key": "k", "operator": "Equal", "value": "v"},
                        {"key": "l", "value": "w", "effect": "NoSchedule"},
                    )
                )
            ]
        if self.on("ConsumableCapacity") and self.chance(50):
            requests = {"size": rng.choice(SIZES[:4]) if self.chance(93) else rng.choice((*QUANTITIES, "10E", "9Ei"))}
            if self.chance(20):
                requests["extents"] = rng.choice(SIZES)
            if self.chance(2):
                requests["dra.memory/size"] = "1Gi"
            found["capacity"] = {"requests": requests}
        if "DerivedAttributes" in self.enabled and self.chance(15):
            found["derivedAttributes"] = [
                {"name": "example.com/derived", "expression": rng.choice(("device.driver", "1", '"a"', "true"))}
            ]
        return found


def cluster(nodes: int, *, devices: int = 8, allocated: int = 5000, seed: int = 1) -> dict[str, Any]:
    """Return a large cluster with three pods to place, the input of `--bench`.

    Every node has `devices` local devices of 4 GiB and a window of 64 GiB; one fabric pool of 4 devices is for all
    nodes. The allocated claims are spread over all nodes but the last; on those, 3 GiB of each local device are taken,
    and the windows are so full that only the last has 8 GiB left.
    """
    rng = random.Random(seed)
    names = [f"node-{number:04d}" for number in range(nodes)]
    slices: list[dict[str, Any]] = []
    claims: list[dict[str, Any]] = []

    def take(pool: str, device: str, size: str) -> None:
        number = len(claims)
        share = f"{rng.getrandbits(32):08x}-0000-4000-8000-{number:012d}"
        result = {
            "request": "r",
            "driver": DRIVER,
            "pool": pool,
            "device": device,
            "shareID": share,
            "consumedCapacity": {"size": size},
        }
        claims.append(
            {
                "metadata": {"name": f"old-{number}", "namespace": "default", "uid": f"uid-{number}"},
                "spec": {},
                "status": {"allocation": {"devices": {"results": [result]}}},
            }
        )

    policy = {"default": "512Mi", "validRange": {"min": "512Mi", "step": "512Mi"}}
    for number, name in enumerate(names):
        local = [
            {
                "name": f"mem-{index}",
                "allowMultipleAllocations": True,
                "attributes": {"kind": {"string": "local"}, "resource.kubernetes.io/numaNode": {"int": index % 2}},
                "capacity": {"size": {"value": "4Gi", "requestPolicy": policy}},
            }
            for index in range(devices)
        ]
        slices.append(_local_slice(name, "mem", local))
        window = {
            "name": "port0",
            "allowMultipleAllocations": True,
            "attributes": {"kind": {"string": "window"}, "fabricDomain": {"string": "rack-a"}},
            "capacity": {"size": {"value": "64Gi", "requestPolicy": policy}},
        }
        slices.append(_local_slice(name, "windows", [window]))
        if number != nodes - 1:
            take(f"{name}/windows", "port0", "60Gi")
    fabric = [
        {
            "name": f"fabric-{index}",
            "allowMultipleAllocations": True,
            "bindsToNode": True,
            "bindingConditions": ["dynamicmemory.dev/Attached"],
            "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
            "attributes": {"kind": {"string": "fabric"}, "fabricDomain": {"string": "rack-a"}},
            "capacity": {"size": {"value": "1Ti", "requestPolicy": policy}},
        }
        for index in range(4)
    ]
    slices.append(
        {
            "metadata": {"name": "fabric-rack-a"},
            "spec": {
                "driver": DRIVER,
                "pool": {"name": "fabric/rack-a", "generation": 1, "resourceSliceCount": 1},
                "nodeSelector": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["a"]}]}]
                },
                "devices": fabric,
            },
        }
    )
    # 3 GiB of each local device are taken, until there are as many claims as wanted; what is left is too small instead.
    places = [(name, index) for name in names[:-1] for index in range(devices)]
    held = max(0, allocated - len(claims))
    for name, index in places[:held]:
        take(f"{name}/mem", f"mem-{index}", "3Gi")
    by_name = {piece["metadata"]["name"]: piece for piece in slices}
    for name, index in places[held:]:
        by_name[f"{name}-mem"]["spec"]["devices"][index]["capacity"]["size"] = {"value": "1Gi", "requestPolicy": policy}

    def selector(kind: str) -> list[dict[str, Any]]:
        return [{"cel": {"expression": f'device.attributes["dra.memory"].kind == "{kind}"'}}]

    def request(name: str, class_: str, size: str) -> dict[str, Any]:
        return {
            "name": name,
            "exactly": {
                "deviceClassName": class_,
                "allocationMode": "ExactCount",
                "count": 1,
                "capacity": {"requests": {"size": size}},
            },
        }

    def pod(name: str, requests: list[dict[str, Any]], *, tied: bool = False) -> list[dict[str, Any]]:
        spec: dict[str, Any] = {"requests": requests}
        if tied:
            spec["constraints"] = [{"matchAttribute": "dra.memory/fabricDomain"}]
        return [{"metadata": {"name": name, "namespace": "default", "uid": f"new-{name}"}, "spec": {"devices": spec}}]

    def pair(size: str) -> list[dict[str, Any]]:
        return [request("pool", "fabric", size), request("window", "window", size)]

    return {
        "nodes": [{"metadata": {"name": name, "labels": {"rack": "a"}}} for name in names],
        "classes": [
            {"metadata": {"name": kind}, "spec": {"selectors": selector(kind)}}
            for kind in ("local", "fabric", "window")
        ],
        "slices": slices,
        "allocatedClaims": claims,
        "scenarios": [
            {"name": "local-first", "claims": pod("small", [request("m", "local", "512Mi")]), "expectNode": names[0]},
            {"name": "local-last", "claims": pod("large", [request("m", "local", "3Gi")]), "expectNode": names[-1]},
            {"name": "fabric-first", "claims": pod("pair", pair("2Gi"), tied=True), "expectNode": names[0]},
            {"name": "fabric-last", "claims": pod("big", pair("8Gi"), tied=True), "expectNode": names[-1]},
        ],
    }


def _local_slice(node: str, kind: str, devices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{node}-{kind}"},
        "spec": {
            "driver": DRIVER,
            "pool": {"name": f"{node}/{kind}", "generation": 1, "resourceSliceCount": 1},
            "nodeName": node,
            "devices": devices,
        },
    }
