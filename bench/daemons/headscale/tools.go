//go:build tools

// Package tools pins Headscale, with all it needs, in go.mod and go.sum.
package tools

import _ "github.com/juanfont/headscale/cmd/headscale"
