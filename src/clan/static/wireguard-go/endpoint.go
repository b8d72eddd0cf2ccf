package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// endpoint is where a peer is, and, if it was learnt from a datagram, where that came in. It is
// shared by all datagrams of one origin, so nothing of it changes but what is atomic.
type endpoint struct {
	there netip.AddrPort // without a zone
	zone  uint32         // an interface's index, or 0

	// Where datagrams from there come in. What is sent there goes out from here, so that a router
	// between lets it pass and the peer knows whom it is from.
	here  netip.Addr
	index uint32

	learnt    uint64 // what the count of changes of routes was
	forgotten atomic.Bool
}

var _ conn.Endpoint = (*endpoint)(nil)

func parseEndpoint(text string) (*endpoint, error) {
	there, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	address := there.Addr()
	parsed := &endpoint{there: netip.AddrPortFrom(address.WithZone("").Unmap(), there.Port())}
	if zone := address.Zone(); zone != "" {
		if number, err := strconv.ParseUint(zone, 10, 32); err == nil {
			parsed.zone = uint32(number)
		} else if found, err := net.InterfaceByName(zone); err == nil {
			parsed.zone = uint32(found.Index)
		} else {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	return parsed, nil
}

func (e *endpoint) family() int {
	if e.there.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// source returns where to send from, an invalid address for wherever the kernel likes: after a
// change of routes nothing of before is to be relied upon, until a datagram comes again.
func (e *endpoint) source(routes *routes) (netip.Addr, uint32) {
	if !e.here.IsValid() || e.forgotten.Load() || e.learnt != routes.changes.Load() {
		return netip.Addr{}, 0
	}
	return e.here, e.index
}

// ClearSrc forgets where datagrams from there come in.
func (e *endpoint) ClearSrc() { e.forgotten.Store(true) }

// SrcIP returns the address at which datagrams from there come in, if one is known.
func (e *endpoint) SrcIP() netip.Addr {
	if e.forgotten.Load() {
		return netip.Addr{}
	}
	return e.here
}

// SrcToString returns that in words.
func (e *endpoint) SrcToString() string { return e.SrcIP().String() }

// DstIP returns the peer's address.
func (e *endpoint) DstIP() netip.Addr { return e.there.Addr() }

// DstToBytes returns what cookies are bound to: the peer's address and port.
func (e *endpoint) DstToBytes() []byte {
	data, _ := e.there.MarshalBinary() // which returns no error
	return data
}

// DstToString returns ADDRESS:PORT, with the interface's name where the address needs it.
func (e *endpoint) DstToString() string {
	if e.zone == 0 {
		return e.there.String()
	}
	name := strconv.FormatUint(uint64(e.zone), 10)
	if found, err := net.InterfaceByIndex(int(e.zone)); err == nil {
		name = found.Name
	}
	return netip.AddrPortFrom(e.there.Addr().WithZone(name), e.there.Port()).String()
}
