//go:build tools

// Package tools pins the promtool that tests check and run the alerting rules with.
package tools

import _ "github.com/prometheus/prometheus/cmd/promtool"
