//go:build tools

// Package tools pins the amtool that checks the example of an Alertmanager configuration.
package tools

import _ "github.com/prometheus/alertmanager/cmd/amtool"
