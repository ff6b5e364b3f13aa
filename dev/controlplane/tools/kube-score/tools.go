//go:build tools

// Package tools pins the kube-score that judges what the chart renders.
package tools

import _ "github.com/zegl/kube-score/cmd/kube-score"
