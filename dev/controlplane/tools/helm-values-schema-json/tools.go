//go:build tools

// Package tools pins the generator of the chart's values.schema.json.
package tools

import _ "github.com/losisin/helm-values-schema-json/v2"
