# SPDX-License-Identifier: Apache-2.0
"""What each environment lets an expression do, beyond the shared language."""

from __future__ import annotations

import pytest

from dynamic_memory.cel import (
    CompileError,
    CostExceeded,
    DeviceFeatures,
    DeviceView,
    EvaluationError,
    Fault,
    attribute_value,
    compile_selector,
)
from dynamic_memory.cel.environments.admission import Policy, PolicyBindings, to_json
from dynamic_memory.cel.environments.prototype import compile_constraint
from dynamic_memory.cel.environments.validation import compile_rule, escape
from dynamic_memory.cel.memo import Memo, reads
from dynamic_memory.quantity import Quantity

MEMORY = 'device.attributes["dra.memory"]'


def memory(**attributes) -> DeviceView:
    return DeviceView("dra.memory", attributes, {"size": Quantity.parse("4Gi")})


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("1 +", 1, 4, "expected an expression"),
        ("true &&\n  1", 2, 3, "expected bool"),
        ("true &&\n  undefined", 2, 3, "undeclared reference to 'undefined'"),
        ("device.foo", 1, 8, "expected one of allowMultipleAllocations, attributes, capacity, driver"),
        ('quantity("1") + 1 == 2', 1, 15, "no matching overload for '_+_'"),
        ("'a", 1, 1, "expected a closing '"),
        ("'a'.matches('(')", 1, 13, "missing closing"),
        ("[1, 2", 1, 6, "expected ']'"),
        ("int('x') == 1", 1, 5, "expected a literal that int takes"),
    ],
)
def test_compile_errors_name_place_and_expectation(source, line, column, message):
    with pytest.raises(CompileError) as refused:
        compile_selector(source)
    assert (refused.value.line, refused.value.column) == (line, column)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        (f"{MEMORY}.nothing", 1, 33, "no such key: nothing"),
        (f"true &&\n {MEMORY}.kind + 1 == 2", 2, 39, "no such overload"),
        ("[1][device.driver.size()] == 1", 1, 4, "index out of bounds: 10"),
        (f"{MEMORY}.kind", 1, 1, "CEL result of type string could not be converted to bool"),
    ],
)
def test_runtime_errors_name_place(source, line, column, message):
    selector = compile_selector(source)
    with pytest.raises(EvaluationError, match=message) as failed:
        selector.matches(memory(kind="window"))
    assert (failed.value.line, failed.value.column) == (line, column)


def test_unknown_domain_is_an_empty_map_and_unknown_name_an_error():
    device = memory(kind="window")
    assert compile_selector('device.attributes["other"].size() == 0').matches(device)
    assert not compile_selector('"other" in device.attributes').matches(device)
    with pytest.raises(EvaluationError, match="no such key: kind"):
        compile_selector('device.attributes["other"].kind == "window"').matches(device)
    assert not compile_selector('has(device.attributes["other"].kind)').matches(device)


def test_features_and_environment_decide_what_compiles():
    plain = DeviceFeatures(consumable_capacity=False, list_attributes=False)
    full = DeviceFeatures(consumable_capacity=True, list_attributes=True)
    for source in ("device.allowMultipleAllocations", f'{MEMORY}.kind.includes("a")'):
        assert compile_selector(source, full, env="new")
        assert compile_selector(source, plain, env="stored")
        with pytest.raises(CompileError):
            compile_selector(source, plain, env="new")
    with pytest.raises(CompileError, match="must evaluate to bool"):
        compile_selector("1")
    assert compile_selector("1", derived=True).value(memory()) == 1
    with pytest.raises(CompileError, match="primitive scalar"):
        compile_selector("{}", derived=True)


def test_attributes_are_read_as_json_has_them():
    assert attribute_value({"ints": [1, 2]}) == [1, 2]
    assert attribute_value({"bool": False}) is False
    assert str(attribute_value({"version": "1.2.3"})) == "1.2.3"
    for wrong in ({}, {"version": "1"}, {"versions": ["x"]}):
        with pytest.raises(Fault):
            attribute_value(wrong)


@pytest.mark.parametrize(
    ("expression", "device", "expected"),
    [
        pytest.param(None, {}, True, id="S53"),
        pytest.param("", {}, True, id="S54"),
        pytest.param("device.vendor == 'example.com'", {"vendor": "example.com"}, True, id="S55"),
        pytest.param("device.vendor == 'example.com'", {"vendor": "example.org"}, False, id="S56"),
        pytest.param(
            "device.vendor == 'example.com' && device.model == 'foozer-1000'",
            {"vendor": "example.com", "model": "foozer-1000"}, True, id="S57",
        ),
        pytest.param(
            "device.vendor == 'example.com' && device.model == 'foozer-1000'",
            {"vendor": "example.org", "model": "foozer-1000"}, False, id="S58",
        ),
        pytest.param("device.memory >= '10Gi'", {"memory": Quantity.parse("10Gi")}, True, id="S59"),
        pytest.param("device.memory >= '10Gi'", {"memory": Quantity.parse("9Gi")}, False, id="S59-less"),
        pytest.param("device.memory > quantity('9Gi')", {"memory": Quantity.parse("10Gi")}, True, id="S59-quantity"),
        pytest.param("'10Gi' <= device.memory", {"memory": Quantity.parse("10Gi")}, True, id="S59-turned"),
    ],
)  # fmt: skip
def test_prototype(expression, device, expected):
    assert compile_constraint(expression).holds(device) is expected


@pytest.mark.parametrize(
    "expression", ["device.memory >= 'much'", "device.memory >= 10", "device.model == 'x'", "device.memory"]
)
def test_S59_prototype_never_says_false_in_silence(expression):
    with pytest.raises(EvaluationError):
        compile_constraint(expression).holds({"memory": Quantity.parse("10Gi")})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('semver("1.2.3") == semver("1.2.3")', True),
        ('isSemver("1.2.3-beta.1+build.1")', True),
        ('isSemver("v1.0")', False),
        ('semver("1.2.3") == semver("1.0.0")', False),
        ('semver("1.0.0").isLessThan(semver("1.2.3"))', True),
        ('semver("1.0.0").isLessThan(semver("1.0.0"))', False),
        ('semver("1.2.3").isGreaterThan(semver("1.0.0"))', True),
        ('semver("1.2.3").compareTo(semver("1.2.3"))', 0),
        ('semver("1.0.0").compareTo(semver("1.2.3"))', -1),
        ('semver("1.2.3").compareTo(semver("1.0.0"))', 1),
        ('semver("1.2.3").major() + semver("1.2.3").minor() * 10 + semver("1.2.3").patch() * 100', 321),
    ],
)
def test_S92_semver(source, expected):
    assert compile_selector(source, derived=True).value(memory()) == expected


def test_S92_semver_refusals():
    with pytest.raises(EvaluationError, match=r"No Major\.Minor\.Patch elements found"):
        compile_selector('semver("v1.0")', derived=True).value(memory())
    with pytest.raises(CompileError, match="no matching overload"):
        compile_selector("isSemver([1, 2, 3])")


SCHEMA = {
    "type": "object",
    "properties": {
        "replicas": {"type": "integer"},
        "limit": {"type": "integer"},
        "memory-request": {"type": "string"},
        "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "until": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
        "key": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": True},
        "namespace": {"type": "string"},
        "ratio": {"type": "number"},
    },
}


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("self.replicas <= self.limit", {"replicas": 1, "limit": 2}, True),
        ("self.replicas <= self.limit", {"replicas": 3, "limit": 2}, False),
        ("quantity(self.memory__dash__request).isLessThan(quantity('2Gi'))", {"memory-request": "1Gi"}, True),
        ("isQuantity(self.memory__dash__request)", {"memory-request": "1 Gi"}, False),
        ("self.names.all(n, n.startsWith('a'))", {"names": ["a", "ab"]}, True),
        ("has(self.labels) && 'x' in self.labels && self.labels.x == 'y'", {"labels": {"x": "y"}}, True),
        ("has(self.labels)", {}, False),
        ("self.until > timestamp('2020-01-01T00:00:00Z')", {"until": "2021-01-01T00:00:00Z"}, True),
        ("self.wait < duration('1m')", {"wait": "10s"}, True),
        ("self.key == b'hi'", {"key": "aGk="}, True),
        ("type(self.port) == int ? self.port > 0 : self.port == 'http'", {"port": "http"}, True),
        ("self.__namespace__ == 'x'", {"namespace": "x"}, True),
        ("self.ratio == 1.0", {"ratio": 1}, True),
    ],
)
def test_validation_rule(rule, value, expected):
    assert compile_rule(rule, SCHEMA).holds(value) is expected


def test_transition_rule_waits_for_an_old_value():
    rule = compile_rule("self.replicas >= oldSelf.replicas", SCHEMA)
    assert rule.transition
    assert rule.holds({"replicas": 1})
    assert rule.holds({"replicas": 2}, {"replicas": 1})
    assert not rule.holds({"replicas": 1}, {"replicas": 2})


@pytest.mark.parametrize(
    "rule", ["self.nothing == 1", "self.replicas == 'a'", "self.replicas", "self.names == 1", "device == 1"]
)
def test_validation_rule_is_typed_by_the_schema(rule):
    with pytest.raises(CompileError):
        compile_rule(rule, SCHEMA)


def test_property_names_are_escaped():
    assert [escape(name) for name in ("a", "a-b", "a.b/c", "a__b", "in", "ä", "1a")] == [
        "a", "a__dash__b", "a__dot__b__slash__c", "a__underscores__b", "__in__", None, None,
    ]  # fmt: skip


FAR = 'object.spec.devices.requests.filter(r, has(r.exactly) && r.exactly.deviceClassName == "dra.fabric-memory")'
COMPLETE = """
  variables.far.map(r,
    JSONPatch{op: "add", path: "/spec/devices/requests/-", value: Object.spec.devices.requests{
      name: r.name + "-window",
      exactly: Object.spec.devices.requests.exactly{
        deviceClassName: "dra.fabric-window", allocationMode: "ExactCount", count: 1,
        capacity: Object.spec.devices.requests.exactly.capacity{requests: r.exactly.capacity.requests}}}}) +
  (has(object.spec.devices.constraints) ? [] :
    [JSONPatch{op: "add", path: "/spec/devices/constraints", value: []}]) +
  variables.far.map(r,
    JSONPatch{op: "add", path: "/spec/devices/constraints/-", value: Object.spec.devices.constraints{
      requests: [string(r.name), string(r.name) + "-window"], matchAttribute: "dra.memory/fabricDomain"}})
"""


def claim(**devices):
    request = {
        "name": "m",
        "exactly": {"deviceClassName": "dra.fabric-memory", "capacity": {"requests": {"size": "1Gi"}}},
    }
    return {"spec": {"devices": {"requests": [request], **devices}}}


def test_mutation_makes_json_patches():
    policy = Policy({"far": FAR})
    program = policy.compile(COMPLETE)
    window = {
        "name": "m-window",
        "exactly": {
            "deviceClassName": "dra.fabric-window", "allocationMode": "ExactCount", "count": 1,
            "capacity": {"requests": {"size": "1Gi"}},
        },
    }  # fmt: skip
    constraint = {"requests": ["m", "m-window"], "matchAttribute": "dra.memory/fabricDomain"}
    add = [
        {"op": "add", "path": "/spec/devices/requests/-", "value": window},
        {"op": "add", "path": "/spec/devices/constraints", "value": []},
        {"op": "add", "path": "/spec/devices/constraints/-", "value": constraint},
    ]
    assert to_json(program.evaluate(PolicyBindings(policy, object=claim()))) == add
    assert to_json(program.evaluate(PolicyBindings(policy, object=claim(constraints=[])))) == [add[0], add[2]]


def test_validation_of_a_node_scoped_writer():
    policy = Policy(
        {
            "userNode": "request.userInfo.extra[?'authentication.kubernetes.io/node-name'][0].orValue('')",
            "objectNode": '(request.operation == "DELETE" ? oldObject : object).spec.?nodeName.orValue("")',
        }
    )
    condition = policy.compile("variables.userNode == variables.objectNode")

    def allowed(extra, spec):
        request = {"operation": "CREATE", "userInfo": {"extra": extra}}
        return condition.evaluate(PolicyBindings(policy, object={"spec": spec}, request=request))

    node = "authentication.kubernetes.io/node-name"
    assert allowed({node: ["n1"]}, {"nodeName": "n1"}) is True
    assert allowed({node: ["n1"]}, {"nodeName": "n2"}) is False
    assert allowed({}, {"nodeName": "n2"}) is False
    assert allowed({}, {}) is True


def test_policy_refusals():
    policy = Policy({"broken": "object.missing.field"})
    for source in ("JSONPatch{operation: 'add'}", "Other{a: 1}", "variables.unknown", "JSONPatch{op: 1}"):
        with pytest.raises(CompileError):
            policy.compile(source)
    with pytest.raises(EvaluationError, match='composited variable "broken" fails to evaluate: no such key: missing'):
        policy.compile("variables.broken == 1").evaluate(PolicyBindings(policy, object={}))
    assert policy.compile("jsonpatch.escapeKey('a/b~c')").evaluate({}) == "a~1b~0c"
    with pytest.raises(EvaluationError, match="expected string keys"):
        to_json(policy.compile("{1: 2}").evaluate({}))


def test_costs_of_unbounded_input_are_counted():
    policy = Policy()
    condition = policy.compile("object.items.all(i, object.items.all(j, i != j || true))")
    assert condition.max_cost > condition.cost_limit
    assert condition.evaluate({"object": {"items": list(range(100))}}) is True
    with pytest.raises(CostExceeded):
        condition.evaluate({"object": {"items": list(range(1000))}})


def test_memo_answers_for_devices_that_differ_elsewhere():
    selector = compile_selector(f"[1].exists(x, {MEMORY}.?numaNode.orValue(0) == x)")
    assert not selector.is_generated
    memo = Memo()
    answers = [memo.matches(selector, memory(numaNode=node % 2, serial=str(node))) for node in range(100)]
    assert answers == [node % 2 == 1 for node in range(100)]
    assert (memo.misses, memo.hits) == (2, 98)
    assert memo.matches(selector, memory(numaNode=True)) is False
    assert memo.matches(selector, memory()) is False


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("device.driver == 'x'", (("driver", "", ""),)),
        (f"{MEMORY}.a == 1 || has({MEMORY}.b)", (("attributes", "dra.memory", "a"), ("attributes", "dra.memory", "b"))),
        ('device.capacity["d"]["size"].sign() == 1 || true', None),
        ("device.attributes.exists(d, d == 'x')", None),
        ("device.attributes[device.driver].a", None),
        ("cel.bind(d, device.attributes['x'], d.a)", None),
        ("device.capacity['d'][?'size'].hasValue()", (("capacity", "d", "size"),)),
    ],
)  # fmt: skip
def test_memo_knows_what_is_read(source, expected):
    try:
        tree = compile_selector(source).program.tree
    except CompileError:
        assert expected is None
        return
    assert reads(tree) == expected
