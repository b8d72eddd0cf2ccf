//go:build tools

// Package tools pins wireguard-go, with all it needs, in go.mod and go.sum.
package tools

import _ "golang.zx2c4.com/wireguard"
