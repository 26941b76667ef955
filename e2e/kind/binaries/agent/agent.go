// Package agent does on every node what kindnet and the local-path provisioner do in kind's own node image: it keeps the
// routes to the pods of the other nodes, and makes a folder of its node into a volume when a claim asks for one.
package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netlink"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"
)

// As in manifests/: the class's provisioner, and the folder that is mounted at the same place in the agent's pod.
const (
	provisioner = "millrace.dev/folder"
	volumes     = "/var/millrace-volumes"
)

// Run serves the node that the environment names as NODE, until it is told to end.
func Run() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	node := os.Getenv("NODE")
	config, err := rest.InClusterConfig()
	if err != nil || node == "" {
		klog.Fatalf("this runs in a pod that knows its NODE: %v", err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	watchRoutes(ctx, client, node)
	controller.NewProvisionController(klog.Background(), client, provisioner, folders{node},
		controller.LeaderElection(false), // each serves its own node
		controller.Threadiness(1),
	).Run(ctx)
}

// watchRoutes keeps a route to every other node's pod range, now and whenever a node comes or its address changes.
func watchRoutes(ctx context.Context, client kubernetes.Interface, self string) {
	factory := informers.NewSharedInformerFactory(client, 0)
	set := func(object any) {
		node := object.(*core.Node)
		_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
		if err != nil || node.Name == self {
			return // no range yet: an update follows
		}
		for _, address := range node.Status.Addresses {
			if address.Type != core.NodeInternalIP {
				continue
			}
			route := netlink.Route{Dst: pods, Gw: net.ParseIP(address.Address)}
			if err := netlink.RouteReplace(&route); err != nil {
				klog.Errorf("route to %s by %s: %v", pods, address.Address, err)
			}
		}
	}
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, node any) { set(node) },
	})
	if err != nil {
		klog.Fatal(err)
	}
	factory.Start(ctx.Done())
}

// folders makes volumes out of folders of one node.
type folders struct{ node string }

func (f folders) Provision(_ context.Context, options controller.ProvisionOptions) (*core.PersistentVolume, controller.ProvisioningState, error) {
	folder := filepath.Join(volumes, options.PVName)
	// Open to all, whatever the umask: a pod under `restricted` is no more than a numbered user.
	if err := errors.Join(os.MkdirAll(folder, 0o777), os.Chmod(folder, 0o777)); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	here := core.NodeSelectorRequirement{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{f.node}}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: options.PVName},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: options.PVC.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource:        core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: folder}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{
				{MatchExpressions: []core.NodeSelectorRequirement{here}},
			}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (f folders) ShouldProvision(_ context.Context, claim *core.PersistentVolumeClaim) bool {
	return claim.Annotations["volume.kubernetes.io/selected-node"] == f.node
}

func (f folders) Delete(_ context.Context, volume *core.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(volumes, volume.Name))
}

func (f folders) ShouldDelete(_ context.Context, volume *core.PersistentVolume) bool {
	affinity := volume.Spec.NodeAffinity
	return affinity != nil && affinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] == f.node
}
