// SPDX-License-Identifier: Apache-2.0

// Program peer answers the JSON lines protocol of `python -m dynamic_memory.allocation` with the allocator and the CEL
// of Kubernetes itself, so that a differential test is a comparison of two outputs and a benchmark runs one input file
// through both programs.
//
//	peer                       one JSON object a line on standard input, one answer a line on standard output
//	peer --bench FILE SECONDS  decisions a second over many nodes, with the state that the scheduler keeps
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
	"k8s.io/utils/ptr"
)

// query is one line of input; which fields count depends on the kind.
type query struct {
	ID              json.RawMessage              `json:"id"`
	Kind            string                       `json:"kind"`
	Features        json.RawMessage              `json:"features"`
	Node            *v1.Node                     `json:"node"`
	Classes         []*resourceapi.DeviceClass   `json:"classes"`
	Slices          []*resourceapi.ResourceSlice `json:"slices"`
	AllocatedClaims []*resourceapi.ResourceClaim `json:"allocatedClaims"`
	Claims          []*resourceapi.ResourceClaim `json:"claims"`
	Env             string                       `json:"env"`
	Expression      string                       `json:"expression"`
	Device          celDevice                    `json:"device"`
}

type celDevice struct {
	Driver                   string                                                    `json:"driver"`
	Attributes               map[resourceapi.QualifiedName]resourceapi.DeviceAttribute `json:"attributes"`
	Capacity                 map[resourceapi.QualifiedName]resourceapi.DeviceCapacity  `json:"capacity"`
	AllowMultipleAllocations *bool                                                     `json:"allowMultipleAllocations"`
}

type answer = map[string]any

var switches = map[string]func(*structured.Features) *bool{
	"AdminAccess":             func(f *structured.Features) *bool { return &f.AdminAccess },
	"CompatibilityGroups":     func(f *structured.Features) *bool { return &f.CompatibilityGroups },
	"ConsumableCapacity":      func(f *structured.Features) *bool { return &f.ConsumableCapacity },
	"DerivedAttributes":       func(f *structured.Features) *bool { return &f.DerivedAttributes },
	"DeviceBindingAndStatus":  func(f *structured.Features) *bool { return &f.DeviceBindingAndStatus },
	"DeviceTaints":            func(f *structured.Features) *bool { return &f.DeviceTaints },
	"FractionalCapacityRange": func(f *structured.Features) *bool { return &f.FractionalCapacityRange },
	"ListTypeAttributes":      func(f *structured.Features) *bool { return &f.ListTypeAttributes },
	"OptionalNodeOperations":  func(f *structured.Features) *bool { return &f.OptionalNodeOperations },
	"PartitionableDevices":    func(f *structured.Features) *bool { return &f.PartitionableDevices },
	"PrioritizedList":         func(f *structured.Features) *bool { return &f.PrioritizedList },
}

var defaults = []string{
	"AdminAccess", "ConsumableCapacity", "DeviceBindingAndStatus", "DeviceTaints", "PartitionableDevices", "PrioritizedList",
}

func parseFeatures(raw json.RawMessage) (structured.Features, error) {
	var features structured.Features
	names := defaults
	if len(raw) > 0 && string(raw) != "null" {
		var word string
		if json.Unmarshal(raw, &word) == nil {
			switch word {
			case "none":
				names = nil
			case "all":
				names = nil
				for name := range switches {
					names = append(names, name)
				}
			default:
				return features, fmt.Errorf("unknown features %q", word)
			}
		} else {
			var listed []string
			if err := json.Unmarshal(raw, &listed); err != nil {
				return features, err
			}
			names = listed
		}
	}
	for _, name := range names {
		pick, found := switches[name]
		if !found {
			return features, fmt.Errorf("unknown feature %q", name)
		}
		*pick(&features) = true
	}
	return features, nil
}

func celFeatures(features structured.Features) cel.Features {
	return cel.Features{
		EnableConsumableCapacity: features.ConsumableCapacity,
		EnableListTypeAttributes: features.ListTypeAttributes,
	}
}

type classes map[string]*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) {
	return nil, errors.New("not needed for allocation")
}

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	if class, found := c[name]; found {
		return class, nil
	}
	return nil, fmt.Errorf("device class %q not found", name)
}

func indexClasses(list []*resourceapi.DeviceClass) classes {
	index := make(classes, len(list))
	for _, class := range list {
		index[class.Name] = class
	}
	return index
}

func allocate(ctx context.Context, q *query) answer {
	features, err := parseFeatures(q.Features)
	if err != nil {
		return answer{"ok": false, "error": err.Error(), "scope": "fatal"}
	}
	state := newTracker(features.ConsumableCapacity)
	for _, claim := range q.AllocatedClaims {
		state.add(claim)
	}
	cache := cel.NewCache(100, celFeatures(features))
	allocator, err := structured.NewAllocator(ctx, features, state.gather(), indexClasses(q.Classes), q.Slices, cache)
	if err != nil {
		return answer{"ok": false, "error": err.Error(), "scope": "fatal"}
	}
	results, err := allocator.Allocate(ctx, q.Node, q.Claims)
	switch {
	case errors.Is(err, structured.ErrFailedAllocationOnNode):
		return answer{"ok": false, "error": err.Error(), "scope": "node"}
	case err != nil:
		return answer{"ok": false, "error": err.Error(), "scope": "fatal"}
	case results == nil:
		return answer{"ok": false, "unsatisfied": true}
	}
	return answer{"ok": true, "allocations": results}
}

// evaluate compiles as the API server does for a derived attribute, whose result types include those of a selector. A
// result of type bool is an answer to "does it match?", anything else is a value.
func evaluate(ctx context.Context, q *query) answer {
	features, err := parseFeatures(q.Features)
	if err != nil {
		return answer{"compileError": err.Error()}
	}
	envType := environment.StoredExpressions
	if q.Env == "new" {
		envType = environment.NewExpressions
	}
	options := cel.Options{EnvType: &envType, DisableCostEstimation: true}
	device := cel.Device{
		Driver:                   q.Device.Driver,
		Attributes:               q.Device.Attributes,
		Capacity:                 q.Device.Capacity,
		AllowMultipleAllocations: q.Device.AllowMultipleAllocations,
	}
	compiler := cel.GetCompiler(celFeatures(features))
	options.DerivedAttribute = true
	derived := compiler.CompileCELExpression(q.Expression, options)
	if derived.Error == nil {
		attribute, _, err := derived.EvaluateDerivedAttribute(ctx, device)
		switch {
		case err != nil:
			return answer{"runtimeError": err.Error()}
		case attribute.BoolValue != nil:
			return answer{"match": *attribute.BoolValue}
		}
		return answer{"value": attribute}
	}
	return answer{"compileError": derived.Error.Error()}
}

func respond(ctx context.Context, line []byte) answer {
	var q query
	var result answer
	if err := json.Unmarshal(line, &q); err != nil {
		result = answer{"ok": false, "error": err.Error(), "scope": "fatal"}
	} else {
		func() {
			defer func() {
				if crash := recover(); crash != nil {
					result = answer{"ok": false, "error": fmt.Sprint("panic: ", crash), "scope": "fatal"}
				}
			}()
			switch q.Kind {
			case "allocate":
				result = allocate(ctx, &q)
			case "cel":
				result = evaluate(ctx, &q)
			default:
				result = answer{"ok": false, "error": fmt.Sprintf("unknown kind %q", q.Kind), "scope": "fatal"}
			}
		}()
	}
	result["id"] = q.ID
	return result
}

func serve(ctx context.Context) error {
	reader := bufio.NewReaderSize(os.Stdin, 1<<20)
	writer := bufio.NewWriter(os.Stdout)
	defer writer.Flush()
	for {
		line, err := reader.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			text, failure := json.Marshal(respond(ctx, line))
			if failure != nil {
				return failure
			}
			if _, failure := writer.Write(append(text, '\n')); failure != nil {
				return failure
			}
			if reader.Buffered() == 0 {
				writer.Flush()
			}
		}
		if err != nil {
			return nil
		}
	}
}

// tracker is what the scheduler keeps between decisions: who has what, updated by claim events.
type tracker struct {
	consumable bool
	devices    sets.Set[structured.DeviceID]
	shares     sets.Set[structured.SharedDeviceID]
	capacities structured.ConsumedCapacityCollection
}

func newTracker(consumable bool) *tracker {
	return &tracker{
		consumable: consumable,
		devices:    sets.New[structured.DeviceID](),
		shares:     sets.New[structured.SharedDeviceID](),
		capacities: structured.NewConsumedCapacityCollection(),
	}
}

func (t *tracker) visit(
	claim *resourceapi.ResourceClaim,
	dedicated func(structured.DeviceID),
	shared func(structured.SharedDeviceID, structured.DeviceID, map[resourceapi.QualifiedName]resource.Quantity),
) {
	if claim.Status.Allocation == nil {
		return
	}
	for _, result := range claim.Status.Allocation.Devices.Results {
		if ptr.Deref(result.AdminAccess, false) {
			continue
		}
		id := structured.MakeDeviceID(result.Driver, result.Pool, result.Device)
		if t.consumable && result.ShareID != nil {
			shared(structured.MakeSharedDeviceID(id, result.ShareID), id, result.ConsumedCapacity)
		} else {
			dedicated(id)
		}
	}
}

func (t *tracker) add(claim *resourceapi.ResourceClaim) {
	t.visit(claim,
		func(id structured.DeviceID) { t.devices.Insert(id) },
		func(share structured.SharedDeviceID, id structured.DeviceID, used map[resourceapi.QualifiedName]resource.Quantity) {
			t.shares.Insert(share)
			if used != nil {
				t.capacities.Insert(structured.NewDeviceConsumedCapacity(id, used))
			}
		})
}

func (t *tracker) remove(claim *resourceapi.ResourceClaim) {
	t.visit(claim,
		func(id structured.DeviceID) { t.devices.Delete(id) },
		func(share structured.SharedDeviceID, id structured.DeviceID, used map[resourceapi.QualifiedName]resource.Quantity) {
			t.shares.Delete(share)
			if used != nil {
				t.capacities.Remove(structured.NewDeviceConsumedCapacity(id, used))
			}
		})
}

// gather copies the state for one decision, as the scheduler does.
func (t *tracker) gather() structured.AllocatedState {
	return structured.AllocatedState{
		AllocatedDevices:         t.devices.Clone(),
		AllocatedSharedDeviceIDs: t.shares.Clone(),
		AggregatedCapacity:       t.capacities.Clone(),
	}
}

func main() {
	ctx := context.Background()
	var err error
	switch {
	case len(os.Args) == 1:
		err = serve(ctx)
	case len(os.Args) == 4 && os.Args[1] == "--bench":
		var seconds float64
		if seconds, err = strconv.ParseFloat(os.Args[3], 64); err == nil {
			err = bench(ctx, os.Args[2], seconds)
		}
	default:
		err = errors.New("usage: peer [--bench FILE SECONDS]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
