//go:build tools

// Package tools pins the etcd that the local control plane builds and runs.
package tools

import _ "go.etcd.io/etcd/server/v3"
