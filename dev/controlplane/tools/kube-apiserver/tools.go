//go:build tools

// Package tools pins the kube-apiserver that the local control plane builds and runs.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
