// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// workload is the input of --bench: a cluster and pods to place in it.
type workload struct {
	Features        json.RawMessage              `json:"features"`
	Nodes           []*v1.Node                   `json:"nodes"`
	Classes         []*resourceapi.DeviceClass   `json:"classes"`
	Slices          []*resourceapi.ResourceSlice `json:"slices"`
	AllocatedClaims []*resourceapi.ResourceClaim `json:"allocatedClaims"`
	Scenarios       []scenario                   `json:"scenarios"`
}

type scenario struct {
	Name       string                       `json:"name"`
	Claims     []*resourceapi.ResourceClaim `json:"claims"`
	ExpectNode string                       `json:"expectNode"`
}

type measured struct {
	MsPerDecision float64  `json:"msPerDecision"`
	Node          string   `json:"node"`
	Devices       []string `json:"devices"`
}

// bench measures decisions one after the other in one thread. A decision is: copy the state that is kept between
// decisions (as the scheduler does in PreFilter), make an allocator of it, ask it for one node after the other until
// one fits (Filter), then enter the allocated claims into the state and take them out again.
func bench(ctx context.Context, file string, seconds float64) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var load workload
	if err := json.Unmarshal(text, &load); err != nil {
		return err
	}
	features, err := parseFeatures(load.Features)
	if err != nil {
		return err
	}
	state := newTracker(features.ConsumableCapacity)
	for _, claim := range load.AllocatedClaims {
		state.add(claim)
	}
	cache := cel.NewCache(100, celFeatures(features))
	lister := indexClasses(load.Classes)
	decide := func(claims []*resourceapi.ResourceClaim) (string, []resourceapi.AllocationResult, error) {
		allocator, err := structured.NewAllocator(ctx, features, state.gather(), lister, load.Slices, cache)
		if err != nil {
			return "", nil, err
		}
		for _, node := range load.Nodes {
			results, err := allocator.Allocate(ctx, node, claims)
			if err != nil && !errors.Is(err, structured.ErrFailedAllocationOnNode) {
				return "", nil, err
			}
			if results == nil {
				continue
			}
			allocated := make([]*resourceapi.ResourceClaim, len(claims))
			for i := range claims {
				allocated[i] = claims[i].DeepCopy()
				allocated[i].Status.Allocation = &results[i]
				state.add(allocated[i])
			}
			for i := range allocated {
				state.remove(allocated[i])
			}
			return node.Name, results, nil
		}
		return "", nil, nil
	}
	report := map[string]measured{}
	for _, scenario := range load.Scenarios {
		node, results, err := decide(scenario.Claims)
		if err != nil {
			return fmt.Errorf("scenario %s: %w", scenario.Name, err)
		}
		if scenario.ExpectNode != "" && node != scenario.ExpectNode {
			return fmt.Errorf("scenario %s: chose node %q, expected %q", scenario.Name, node, scenario.ExpectNode)
		}
		count := 0
		start := time.Now()
		for time.Since(start).Seconds() < seconds {
			if _, _, err := decide(scenario.Claims); err != nil {
				return err
			}
			count++
		}
		elapsed := time.Since(start)
		devices := []string{}
		for _, result := range results {
			for _, device := range result.Devices.Results {
				devices = append(devices, device.Driver+"/"+device.Pool+"/"+device.Device)
			}
		}
		report[scenario.Name] = measured{
			MsPerDecision: elapsed.Seconds() * 1000 / float64(max(count, 1)), Node: node, Devices: devices,
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"scenarios": report})
}
