package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	helm "github.com/fluxcd/helm-controller/api/v2"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	source "github.com/fluxcd/source-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

type checks map[schema.GroupKind]*cel.StatusEvaluator

// readChecks returns the healthCheckExprs in files of Flux's kinds. It refuses unknown fields.
func readChecks(files []string) (checks, error) {
	found := checks{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		reader := documents.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
		for {
			document, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = found.add(document)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return found, nil
}

func (found checks) add(document []byte) error {
	object, err := decode(document)
	if err != nil {
		return err
	}
	kustomization, isKustomization := object.(*kustomize.Kustomization)
	if !isKustomization {
		return nil
	}
	for _, check := range kustomization.Spec.HealthCheckExprs {
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return err
		}
		found[schema.FromAPIVersionAndKind(check.APIVersion, check.Kind).GroupKind()] = evaluator
	}
	return nil
}

func decode(document []byte) (any, error) {
	var meta metav1.TypeMeta
	if err := yaml.Unmarshal(document, &meta); err != nil {
		return nil, err
	}
	var object any
	switch meta.GroupVersionKind() {
	case kustomize.GroupVersion.WithKind("Kustomization"):
		object = &kustomize.Kustomization{}
	case helm.GroupVersion.WithKind("HelmRelease"):
		object = &helm.HelmRelease{}
	case source.GroupVersion.WithKind("GitRepository"):
		object = &source.GitRepository{}
	case source.GroupVersion.WithKind("OCIRepository"):
		object = &source.OCIRepository{}
	default:
		return nil, fmt.Errorf("%s is no kind of Flux that is known here", meta.GroupVersionKind())
	}
	content, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	// Unlike encoding/json, it compares the names of fields with their case.
	unknown, err := json.UnmarshalStrict(content, object)
	return object, errors.Join(append(unknown, err)...)
}
