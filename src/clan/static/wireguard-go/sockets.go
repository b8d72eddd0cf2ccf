package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// tries is how often a port is drawn that is to be free in both versions of IP.
const tries = 100

// sockets carries the datagrams of one WireGuard: a conn.Bind with a socket of each version of IP.
//
// wireguard-go's own reads two datagrams in one call where the kernel can put some together
// (UDP_GRO), as each may hold 64. Where it does not put them together, because an interface's
// driver has that switched off or a router between has translated them, two are all that comes of
// a call, and all that is decrypted and written to the interface at once. This one reads as many
// as wait, up to `waiting`, and keeps what is more than the device has room for until the next
// call. What is sent in a batch (UDP_SEGMENT) is not copied together before, and goes one by one
// where a batch does not pass: that is so where datagrams have to be cut into fragments.
type sockets struct {
	routes *routes

	mu   sync.RWMutex
	open map[int]*socket // by the address family
}

// socket is one of them.
type socket struct {
	family int
	conn   *net.UDPConn
	raw    syscall.RawConn
	single atomic.Bool // the kernel takes datagrams one by one alone
}

var _ conn.Bind = (*sockets)(nil)

// newSockets listens to what changes routes, for as long as the process lives.
func newSockets() (*sockets, error) {
	routes, err := watchRoutes()
	if err != nil {
		return nil, err
	}
	return &sockets{routes: routes, open: map[int]*socket{}}, nil
}

// Open listens on a port of both versions of IP, one that is free in both if it is 0.
func (s *sockets) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) > 0 {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	for try := 1; ; try++ {
		opened, bound, err := listen(port)
		if errors.Is(err, syscall.EADDRINUSE) && port == 0 && try < tries {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		var receive []conn.ReceiveFunc
		for _, each := range opened {
			s.open[each.family] = each
			receive = append(receive, newInbox(each, s.routes).receive)
		}
		return receive, bound, nil
	}
}

// listen opens a socket for each version of IP that this machine has, on one port.
func listen(port uint16) (opened []*socket, bound uint16, err error) {
	defer func() {
		if err != nil {
			for _, each := range opened {
				each.conn.Close()
			}
			opened = nil
		}
	}()
	bound = port
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		each, err := newSocket(family, bound)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return opened, 0, err
		}
		opened = append(opened, each)
		bound = uint16(each.conn.LocalAddr().(*net.UDPAddr).Port)
	}
	if len(opened) == 0 {
		return nil, 0, syscall.EAFNOSUPPORT
	}
	return opened, bound, nil
}

func newSocket(family int, port uint16) (*socket, error) {
	made := &socket{family: family}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var refused error
		err := raw.Control(func(fd uintptr) { refused = made.prepare(int(fd)) })
		return errors.Join(err, refused)
	}}
	network := "udp4"
	if family == unix.AF_INET6 {
		network = "udp6"
	}
	opened, err := config.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, err
	}
	made.conn = opened.(*net.UDPConn)
	made.raw, err = made.conn.SyscallConn()
	if err != nil {
		made.conn.Close()
		return nil, err
	}
	return made, nil
}

// room is how many bytes may wait in a socket, each way: some milliseconds of a fast network.
const room = 7 << 20

// prepare has the kernel tell where datagrams came to, and take and give batches if it can.
func (s *socket) prepare(fd int) error {
	for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		// The latter two go beyond net.core.rmem_max, and may be refused: it is slower then.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, room)
	}
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	s.single.Store(err != nil)
	// It can be asked for since Linux 5.12; before, it loses datagrams now and then.
	if _, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO); err == nil {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	}
	if s.family == unix.AF_INET {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// Close ends both; what waits for a datagram returns net.ErrClosed.
func (s *sockets) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []error
	for family, each := range s.open {
		faults = append(faults, each.conn.Close())
		delete(s.open, family)
	}
	return errors.Join(faults...)
}

// SetMark has all that is sent bear a firewall mark (SO_MARK, socket(7)).
func (s *sockets) SetMark(mark uint32) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var faults []error
	for _, each := range s.open {
		var refused error
		err := each.raw.Control(func(fd uintptr) {
			refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
		faults = append(faults, err, refused)
	}
	return errors.Join(faults...)
}

// Send sends datagrams to an endpoint.
func (s *sockets) Send(datagrams [][]byte, to conn.Endpoint) error {
	there, ok := to.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	s.mu.RLock()
	via := s.open[there.family()]
	s.mu.RUnlock()
	if via == nil {
		return syscall.EAFNOSUPPORT
	}
	return via.send(datagrams, there, s.routes)
}

// ParseEndpoint reads ADDRESS:PORT; an IPv6 address may have a zone.
func (s *sockets) ParseEndpoint(text string) (conn.Endpoint, error) {
	return parseEndpoint(text)
}

// BatchSize is how many datagrams are received, or sent, at once.
func (s *sockets) BatchSize() int { return conn.IdealBatchSize }
