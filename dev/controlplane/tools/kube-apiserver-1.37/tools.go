//go:build tools

// Package tools pins kube-apiserver 1.37 for make compat.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
