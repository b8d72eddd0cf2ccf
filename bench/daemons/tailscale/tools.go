//go:build tools

// Package tools pins Tailscale, with all it needs, in go.mod and go.sum.
package tools

import (
	_ "tailscale.com/cmd/tailscale"
	_ "tailscale.com/cmd/tailscaled"
)
