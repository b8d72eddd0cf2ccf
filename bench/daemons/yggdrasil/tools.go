//go:build tools

// Package tools pins Yggdrasil, with all it needs, in go.mod and go.sum.
package tools

import (
	_ "github.com/yggdrasil-network/yggdrasil-go/cmd/yggdrasil"
	_ "github.com/yggdrasil-network/yggdrasil-go/cmd/yggdrasilctl"
)
