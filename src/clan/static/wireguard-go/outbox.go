package main

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	// most is how many datagrams the kernel takes as one batch (UDP_MAX_SEGMENTS of Linux 4.18).
	most = 64
	// longest is how many bytes a batch may have, with the headers of IPv4 and UDP.
	longest = 1<<16 - 1 - 20 - 8
)

var (
	// ofSource is what the kernel says where the address, or the interface, to send from is no more.
	ofSource = []syscall.Errno{
		syscall.EINVAL, syscall.ENODEV, syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
	}
	// ofBatch is what it says where datagrams may pass one by one: cut into fragments, say.
	ofBatch = []syscall.Errno{syscall.EINVAL, syscall.EMSGSIZE, syscall.EIO}
)

// outbox is what is being sent, in the kernel's terms. A batch is one header with several vectors,
// and the size of its datagrams (UDP_SEGMENT, udp(7)).
type outbox struct {
	name     unix.RawSockaddrInet6 // which has room for IPv4's
	nameSize uint32
	headers  [conn.IdealBatchSize]header
	vectors  [conn.IdealBatchSize]unix.Iovec
	controls [conn.IdealBatchSize]controls
	begins   [conn.IdealBatchSize]int // of each header, its first datagram
	count    int                      // of headers
}

var outboxes = sync.Pool{New: func() any { return new(outbox) }}

// send sends datagrams, with as few calls as can be. What fails does not keep the others back; the
// first fault is returned.
func (s *socket) send(datagrams [][]byte, to *endpoint, routes *routes) error {
	box := outboxes.Get().(*outbox)
	defer outboxes.Put(box)
	defer clear(box.vectors[:]) // a box that lies there keeps nobody's memory
	here, index := to.source(routes)
	together := !s.single.Load()
	var first error
	for len(datagrams) > 0 {
		box.pack(datagrams, to, here, index, together)
		sent, errno, err := box.post(s.raw)
		if err != nil {
			return err
		}
		if errno == 0 {
			break
		}
		begin, count := box.span(sent, len(datagrams))
		datagrams = datagrams[begin:]
		switch {
		case here.IsValid() && slices.Contains(ofSource, errno):
			to.ClearSrc()
			here, index = netip.Addr{}, 0
		case count > 1 && slices.Contains(ofBatch, errno):
			together = false
			if errno == syscall.EIO { // an interface that cannot calculate checksums
				s.single.Store(true)
			}
		default:
			if first == nil {
				first = errno
			}
			datagrams = datagrams[count:]
		}
	}
	return first
}

// pack writes down what is to be sent: `together` in batches of one size, of which only the last
// datagram may be shorter.
func (b *outbox) pack(datagrams [][]byte, to *endpoint, here netip.Addr, index uint32, together bool) {
	b.address(to)
	b.count = 0
	begin, bytes := 0, 0
	for i, datagram := range datagrams {
		vector := &b.vectors[i]
		vector.Base = unsafe.SliceData(datagram)
		vector.SetLen(len(datagram))
		full := i > begin && (!together || i-begin == most || bytes+len(datagram) > longest ||
			len(datagram) > len(datagrams[begin]) || len(datagrams[i-1]) < len(datagrams[begin]))
		if full {
			b.finish(datagrams, begin, i, here, index)
			begin, bytes = i, 0
		}
		bytes += len(datagram)
	}
	b.finish(datagrams, begin, len(datagrams), here, index)
}

// finish writes the header of a batch, or of one datagram.
func (b *outbox) finish(datagrams [][]byte, begin, end int, here netip.Addr, index uint32) {
	control := b.controls[b.count][:0]
	if here.IsValid() {
		control = appendSource(control, here, index)
	}
	if end-begin > 1 {
		var size [2]byte
		binary.NativeEndian.PutUint16(size[:], uint16(len(datagrams[begin])))
		control = appendControl(control, unix.SOL_UDP, unix.UDP_SEGMENT, size[:])
	}
	header := &b.headers[b.count]
	header.Name, header.Namelen = (*byte)(unsafe.Pointer(&b.name)), b.nameSize
	header.Iov = &b.vectors[begin]
	header.SetIovlen(end - begin)
	header.Control = nil
	if len(control) > 0 {
		header.Control = &control[0]
	}
	header.SetControllen(len(control))
	b.begins[b.count] = begin
	b.count++
}

// address writes the peer's address.
func (b *outbox) address(to *endpoint) {
	port := network16(to.there.Port())
	if to.family() == unix.AF_INET {
		name := (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.name))
		*name = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to.there.Addr().As4()}
		b.nameSize = unix.SizeofSockaddrInet4
		return
	}
	b.name = unix.RawSockaddrInet6{
		Family: unix.AF_INET6, Port: port, Addr: to.there.Addr().As16(), Scope_id: to.zone,
	}
	b.nameSize = unix.SizeofSockaddrInet6
}

// span returns the first datagram of a header, and how many are in it.
func (b *outbox) span(at, datagrams int) (begin, count int) {
	begin = b.begins[at]
	if at+1 < b.count {
		return begin, b.begins[at+1] - begin
	}
	return begin, datagrams - begin
}

// post gives all to the kernel. With an errno it returns how many headers were sent before: the
// next was refused. The error is for a socket that was closed.
func (b *outbox) post(raw syscall.RawConn) (sent int, errno syscall.Errno, err error) {
	for sent < b.count {
		var done uintptr
		err = raw.Write(func(fd uintptr) bool {
			for {
				done, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, fd,
					uintptr(unsafe.Pointer(&b.headers[sent])), uintptr(b.count-sent), 0, 0, 0)
				if errno != unix.EINTR {
					return errno != unix.EAGAIN
				}
			}
		})
		if err != nil || errno != 0 {
			return sent, errno, err
		}
		sent += int(done)
	}
	return sent, 0, nil
}

// appendSource appends where to send from: an address of this machine, and the interface.
func appendSource(control []byte, here netip.Addr, index uint32) []byte {
	if here.Is4() {
		info := unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: here.As4()}
		data := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unix.SizeofInet4Pktinfo)
		return appendControl(control, unix.IPPROTO_IP, unix.IP_PKTINFO, data)
	}
	info := unix.Inet6Pktinfo{Addr: here.As16(), Ifindex: index}
	data := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unix.SizeofInet6Pktinfo)
	return appendControl(control, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, data)
}

// appendControl appends one control message (cmsg(3)). There is room for it.
func appendControl(control []byte, level, kind int32, data []byte) []byte {
	begin := len(control)
	control = control[:begin+unix.CmsgSpace(len(data))]
	head := (*unix.Cmsghdr)(unsafe.Pointer(&control[begin]))
	head.Level, head.Type = level, kind
	head.SetLen(unix.CmsgLen(len(data)))
	copy(control[begin+unix.CmsgLen(0):], data)
	return control
}
