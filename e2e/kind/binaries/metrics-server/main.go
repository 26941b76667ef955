// Command metrics-server is metrics-server with the names that Kubernetes 1.35 looks for in its description of types: its
// own program has those of before, and does not start when it is compiled with that Kubernetes.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
	"sigs.k8s.io/metrics-server/pkg/api"
	generated "sigs.k8s.io/metrics-server/pkg/api/generated/openapi"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	opts := options.NewOptions()
	flags := pflag.NewFlagSet("metrics-server", pflag.ExitOnError)
	for _, set := range opts.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if errs := opts.Validate(); len(errs) > 0 {
		return errs[0]
	}
	config, err := opts.ServerConfig()
	if err != nil {
		return err
	}
	namer := openapi.NewDefinitionNamer(api.Scheme)
	v2, v3 := config.Apiserver.OpenAPIConfig, config.Apiserver.OpenAPIV3Config
	config.Apiserver.OpenAPIConfig = server.DefaultOpenAPIConfig(definitions, namer)
	config.Apiserver.OpenAPIV3Config = server.DefaultOpenAPIV3Config(definitions, namer)
	config.Apiserver.OpenAPIConfig.Info, config.Apiserver.OpenAPIV3Config.Info = v2.Info, v3.Info
	s, err := config.Complete()
	if err != nil {
		return err
	}
	return s.RunUntil(server.SetupSignalHandler())
}

// definitions has every type under both names.
func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := generated.GetOpenAPIDefinitions(ref)
	both := make(map[string]common.OpenAPIDefinition, 2*len(all))
	for name, definition := range all {
		both[name] = definition
		both[util.ToRESTFriendlyName(name)] = definition
	}
	return both
}
