// SPDX-License-Identifier: Apache-2.0

// Command nri-reference is what our NRI plugin is measured against: NRI's own code on either side of the socket.
//
//	nri-reference runtime SOCKET CREATIONS CONTAINERS
//	nri-reference plugin SOCKET
//
// As the runtime it waits for a plugin, has it synchronize CONTAINERS containers, then creates CREATIONS containers one
// after the other, and prints one line of JSON with the times in microseconds. As a plugin it pins containers that have
// a variable of a claim, which is what ours does for the bench.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

const (
	warmUp = 300
	claim  = "DRAMEMORY_00000001-0000-4000-8000-000000000000"
)

func environment(withClaim bool) []string {
	env := []string{}
	for i := 0; i < 18; i++ {
		env = append(env, fmt.Sprintf("VARIABLE_%d=a value of some length", i))
	}
	if withClaim {
		env = append(env, claim+"_NUMANodes=0", claim+"_hugepages_2Mi=numanode:0,size:64Mi")
	}
	return env
}

func pod(uid string) *api.PodSandbox {
	return &api.PodSandbox{
		Id: "sandbox-" + uid, Name: "name-" + uid, Uid: uid, Namespace: "default",
		Labels: map[string]string{"app": "bench"},
		Linux:  &api.LinuxPodSandbox{CgroupParent: "/kubepods/burstable/pod" + uid},
	}
}

func container(uid, name string, withClaim bool) *api.Container {
	made := &api.Container{
		Id: uid + "-" + name, PodSandboxId: "sandbox-" + uid, Name: name, State: api.ContainerState_CONTAINER_RUNNING,
		Env: environment(withClaim), Args: []string{"/bin/sleep", "1000"},
		Labels: map[string]string{"io.kubernetes.container.name": name},
		Linux:  &api.LinuxContainer{CgroupsPath: "/kubepods/burstable/pod" + uid + "/" + name},
	}
	if withClaim {
		made.CDIDevices = []*api.CDIDevice{{Name: "dra.memory/claim=claim-" + strings.TrimPrefix(claim, "DRAMEMORY_")}}
	}
	return made
}

func pinned(answer *api.CreateContainerResponse) bool {
	return answer.GetAdjust().GetLinux().GetResources().GetCpu().GetMems() == "0"
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "nri-reference:", err)
		os.Exit(1)
	}
}

func runtime(socket string, creations, containers int) {
	synchronized := make(chan time.Duration, 16)
	pods := []*api.PodSandbox{pod("bench")}
	existing := []*api.Container{}
	// with very few pods and very many containers NRI 0.12.3 sends empty pieces for ever
	for i := 0; i < containers; i++ {
		uid := fmt.Sprintf("p%d", i/4)
		if i%4 == 0 {
			pods = append(pods, pod(uid))
		}
		existing = append(existing, container(uid, fmt.Sprintf("c%d", i), false))
	}
	synchronize := func(ctx context.Context, answer adaptation.SyncCB) error {
		began := time.Now()
		_, err := answer(ctx, pods, existing)
		synchronized <- time.Since(began)
		return err
	}
	update := func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil }
	adaptation.SetPluginRequestTimeout(30 * time.Second)
	made, err := adaptation.New("containerd", "v2.4.2", synchronize, update,
		adaptation.WithSocketPath(socket), adaptation.WithPluginPath(""), adaptation.WithPluginConfigPath(""))
	check(err)
	check(made.Start())
	ctx := context.Background()
	// the plugin is on the runtime's list a moment after it has synchronized
	for wait := 0; ; wait++ {
		answer, err := made.CreateContainer(ctx, &api.CreateContainerRequest{Pod: pods[0], Container: container("bench", "app", true)})
		check(err)
		if pinned(answer) {
			break
		}
		if wait == 6000 {
			check(fmt.Errorf("the plugin does not pin"))
		}
		time.Sleep(10 * time.Millisecond)
	}
	check(made.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: pods[0]}))
	// the first is that of the start, with no plugin at all
	took := time.Duration(0)
	for len(synchronized) > 0 {
		took = <-synchronized
	}
	times := []float64{}
	adjusted := 0
	for i := 0; i < creations+warmUp; i++ {
		request := &api.CreateContainerRequest{Pod: pods[0], Container: container("bench", "app", true)}
		began := time.Now()
		answer, err := made.CreateContainer(ctx, request)
		elapsed := time.Since(began)
		check(err)
		if pinned(answer) {
			adjusted++
		}
		if i >= warmUp {
			times = append(times, float64(elapsed.Nanoseconds())/1000)
		}
	}
	made.Stop()
	sort.Float64s(times)
	at := func(share float64) float64 { return times[int(float64(len(times)-1)*share)] }
	check(json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"p50": at(0.5), "p90": at(0.9), "p99": at(0.99),
		"synchronize": float64(took.Microseconds()), "adjusted": float64(adjusted), "created": float64(creations + warmUp),
	}))
}

type plugin struct{}

func (plugin) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	return nil, nil
}

func (plugin) RunPodSandbox(context.Context, *api.PodSandbox) error { return nil }

func (plugin) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	adjust := &api.ContainerAdjustment{}
	for _, entry := range c.GetEnv() {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "DRAMEMORY_") && strings.HasSuffix(name, "_NUMANodes") {
			adjust.SetLinuxCPUSetMems(value)
			adjust.AddLinuxHugepageLimit("2MB", 64<<20)
			adjust.AddLinuxHugepageLimit("1GB", 0)
		}
	}
	return adjust, nil, nil
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "runtime" {
		creations, err := strconv.Atoi(os.Args[3])
		check(err)
		containers, err := strconv.Atoi(os.Args[4])
		check(err)
		runtime(os.Args[2], creations, containers)
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "plugin" {
		made, err := stub.New(plugin{}, stub.WithPluginName("reference"), stub.WithPluginIdx("10"), stub.WithSocketPath(os.Args[2]))
		check(err)
		check(made.Run(context.Background()))
		return
	}
	fmt.Fprintln(os.Stderr, "usage: nri-reference runtime SOCKET CREATIONS CONTAINERS | plugin SOCKET")
	os.Exit(2)
}
