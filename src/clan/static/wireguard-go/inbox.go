package main

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// waiting is how many datagrams, or batches of them, one call takes from the kernel.
	waiting = 64
	// largest is how many bytes each may have (RFC 768).
	largest = 1 << 16
)

// header is the kernel's struct mmsghdr (recvmmsg(2)).
type header struct {
	unix.Msghdr
	length uint32
}

// controls has room for what comes with a datagram: where it came to, and the size of the pieces.
type controls [96]byte

// origin is by what one tells whether two datagrams took the same way here.
type origin struct {
	from  unix.RawSockaddrInet6
	to    [16]byte
	index uint32
}

// inbox is what was received by a socket and not yet handed over. One goroutine uses it.
type inbox struct {
	socket *socket
	routes *routes

	headers  [waiting]header
	vectors  [waiting]unix.Iovec
	from     [waiting]unix.RawSockaddrInet6 // which has room for IPv4's
	controls [waiting]controls
	data     []byte

	have, next int // how many datagrams there are, and which of them is next
	at         int // where in it
	piece      int // bytes of its pieces
	of         *endpoint

	last       *endpoint // that of the last one, and by what it was known
	lastOrigin origin
}

func newInbox(of *socket, routes *routes) *inbox {
	made := &inbox{socket: of, routes: routes, data: make([]byte, waiting*largest)}
	for i := range made.headers {
		vector := &made.vectors[i]
		vector.Base = &made.data[i*largest]
		vector.SetLen(largest)
		header := &made.headers[i]
		header.Iov = vector
		header.SetIovlen(1)
		header.Name = (*byte)(unsafe.Pointer(&made.from[i]))
		header.Control = &made.controls[i][0]
	}
	made.have = waiting // so that all are made ready for the first call
	made.next = waiting
	return made
}

// receive waits until there are datagrams, and copies as many of them as there is room for. It is
// a conn.ReceiveFunc.
func (b *inbox) receive(packets [][]byte, sizes []int, endpoints []conn.Endpoint) (int, error) {
	n := 0
	for n == 0 {
		if b.next == b.have {
			if err := b.fill(); err != nil {
				return 0, err
			}
		}
		for n < len(packets) && b.next < b.have {
			length := int(b.headers[b.next].length)
			if b.at == 0 {
				b.look()
			}
			if b.at < length {
				begin := b.next*largest + b.at
				size := min(b.piece, length-b.at)
				sizes[n] = copy(packets[n], b.data[begin:begin+size])
				endpoints[n] = b.of
				n++
				b.at += size
			}
			if b.at >= length {
				b.next++
				b.at = 0
			}
		}
	}
	return n, nil
}

// fill takes what waits in the socket, and waits where nothing does.
func (b *inbox) fill() error {
	for i := range b.headers[:b.have] { // the kernel has written there what it gave
		header := &b.headers[i]
		header.Namelen = unix.SizeofSockaddrInet6
		header.SetControllen(len(controls{}))
	}
	b.have, b.next, b.at = 0, 0, 0
	var got uintptr
	var fault unix.Errno
	err := b.socket.raw.Read(func(fd uintptr) bool {
		for {
			got, _, fault = unix.Syscall6(unix.SYS_RECVMMSG, fd,
				uintptr(unsafe.Pointer(&b.headers[0])), waiting, 0, 0, 0)
			if fault != unix.EINTR {
				return fault != unix.EAGAIN
			}
		}
	})
	if err != nil {
		return err
	}
	if fault != 0 {
		return fault
	}
	b.have = int(got)
	return nil
}

// look finds out where the next datagram came from, and the size of its pieces.
func (b *inbox) look() {
	header := &b.headers[b.next]
	b.piece = int(header.length)
	came := origin{from: b.from[b.next]}
	rest := b.controls[b.next][:header.Controllen]
	for len(rest) >= unix.SizeofCmsghdr {
		control, data, more, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		rest = more
		switch {
		case control.Level == unix.IPPROTO_IP && control.Type == unix.IP_PKTINFO:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			copy(came.to[:], info.Spec_dst[:])
			came.index = uint32(info.Ifindex)
		case control.Level == unix.IPPROTO_IPV6 && control.Type == unix.IPV6_PKTINFO:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			came.to = info.Addr
			came.index = info.Ifindex
		case control.Level == unix.SOL_UDP && control.Type == unix.UDP_GRO && len(data) >= 4:
			if size := int(binary.NativeEndian.Uint32(data)); size > 0 {
				b.piece = size
			}
		}
	}
	changes := b.routes.changes.Load()
	fresh := b.last != nil && b.last.learnt == changes && !b.last.forgotten.Load()
	if !fresh || came != b.lastOrigin {
		b.last, b.lastOrigin = came.endpoint(b.socket.family, changes), came
	}
	b.of = b.last
}

// endpoint returns who sent from there, as it was learnt after so many changes of routes.
func (o *origin) endpoint(family int, changes uint64) *endpoint {
	made := &endpoint{index: o.index, learnt: changes}
	port := o.from.Port
	address := netip.AddrFrom16(o.from.Addr)
	made.here = netip.AddrFrom16(o.to)
	if family == unix.AF_INET {
		from := (*unix.RawSockaddrInet4)(unsafe.Pointer(&o.from))
		port = from.Port
		address = netip.AddrFrom4(from.Addr)
		made.here = netip.AddrFrom4([4]byte(o.to[:4]))
	} else {
		made.zone = o.from.Scope_id
	}
	made.there = netip.AddrPortFrom(address, network16(port))
	return made
}

// network16 turns a port between the network's order of bytes and the machine's, either way.
func network16(port uint16) uint16 {
	var bytes [2]byte
	binary.NativeEndian.PutUint16(bytes[:], port)
	return binary.BigEndian.Uint16(bytes[:])
}
