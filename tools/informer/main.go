// SPDX-License-Identifier: Apache-2.0

// A peer of the embedded API server: shared informers of Kubernetes' own client library, as every controller has them.
//
// It follows config maps and pods of one namespace and prints a line of JSON for each call of its handlers, in order:
//
//	{"event": "synced"}                          once, when the first lists are there
//	{"event": "add|update|delete", "resource": "configmaps", "name": "a", "uid": "…", "resourceVersion": "7"}
//	{"event": "missed", …}                       a deletion that was found out by listing anew
//	{"event": "cached", "resource": …, "name": …} at the end, for each object that the informer still knows
//
// It ends when its standard input does.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type line struct {
	Event    string `json:"event"`
	Resource string `json:"resource,omitempty"`
	Name     string `json:"name,omitempty"`
	UID      string `json:"uid,omitempty"`
	Version  string `json:"resourceVersion,omitempty"`
}

type printer struct {
	mutex sync.Mutex
	out   *bufio.Writer
}

func (p *printer) print(found line) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	text, err := json.Marshal(found)
	if err != nil {
		panic(err)
	}
	p.out.Write(append(text, '\n'))
	p.out.Flush()
}

func (p *printer) object(event, resource string, object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		event, object = "missed", gone.Obj
	}
	meta := object.(metav1.Object)
	p.print(line{event, resource, meta.GetName(), string(meta.GetUID()), meta.GetResourceVersion()})
}

func follow(ctx context.Context, config *rest.Config, namespace string, to *printer) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	followed := map[string]cache.SharedIndexInformer{
		"configmaps": factory.Core().V1().ConfigMaps().Informer(),
		"pods":       factory.Core().V1().Pods().Informer(),
	}
	for resource, informer := range followed {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { to.object("add", resource, object) },
			UpdateFunc: func(_, object any) { to.object("update", resource, object) },
			DeleteFunc: func(object any) { to.object("delete", resource, object) },
		})
		if err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("no list of %v", kind)
		}
	}
	to.print(line{Event: "synced"})
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	stop()
	factory.Shutdown()
	for resource, informer := range followed {
		for _, object := range informer.GetStore().List() {
			to.object("cached", resource, object)
		}
	}
	return nil
}

func main() {
	path := flag.String("kubeconfig", "", "file of the kubeconfig")
	namespace := flag.String("namespace", "default", "namespace to follow")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *path)
	if err == nil {
		err = follow(context.Background(), config, *namespace, &printer{out: bufio.NewWriter(os.Stdout)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "informer:", err)
		os.Exit(1)
	}
}
