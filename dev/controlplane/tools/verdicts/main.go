// Command verdicts says what Argo CD and Flux think of Kubernetes objects.
//
// Usage: verdicts HEALTH.lua FLUX.yaml... < objects > verdicts
//
// It reads one JSON object per line and writes one line for each: Argo CD's health, kstatus's status,
// and Flux's status with the healthCheckExprs of the Kustomizations in the given files.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Argo    health        `json:"argo"`
	Kstatus status.Status `json:"kstatus"`
	Flux    status.Status `json:"flux"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verdicts:", err)
		os.Exit(1)
	}
}

func run(files []string, objects io.Reader, verdicts io.Writer) error {
	script, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	checks, err := readChecks(files[1:])
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(objects)
	lines.Buffer(nil, 1<<24)
	output := json.NewEncoder(verdicts)
	for lines.Scan() {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			return err
		}
		judged, err := judge(string(script), checks, &object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := output.Encode(judged); err != nil {
			return err
		}
	}
	return lines.Err()
}

func judge(script string, checks checks, object *unstructured.Unstructured) (verdict, error) {
	argo, err := argoHealth(script, object.Object)
	if err != nil {
		return verdict{}, fmt.Errorf("health.lua: %w", err)
	}
	plain, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	flux := plain
	if check, found := checks[object.GroupVersionKind().GroupKind()]; found {
		if flux, err = check.Evaluate(context.Background(), object); err != nil {
			return verdict{}, fmt.Errorf("healthCheckExprs: %w", err)
		}
	}
	return verdict{Argo: argo, Kstatus: plain.Status, Flux: flux.Status}, nil
}
