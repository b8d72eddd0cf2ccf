package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// end is one that sends and receives.
type end struct {
	sockets *sockets
	port    uint16
	receive []conn.ReceiveFunc
}

func opened(t *testing.T) *end {
	t.Helper()
	made, err := newSockets()
	if err != nil {
		t.Fatal(err)
	}
	receive, port, err := made.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return &end{sockets: made, port: port, receive: receive}
}

// at returns where it is found at an address.
func (e *end) at(t *testing.T, address string) *endpoint {
	t.Helper()
	return found(t, netip.AddrPortFrom(netip.MustParseAddr(address), e.port).String())
}

func found(t *testing.T, text string) *endpoint {
	t.Helper()
	there, err := parseEndpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// got is a datagram, and whom it came from.
type got struct {
	data []byte
	from *endpoint
}

// take receives so many datagrams of a version of IP, with room for a few at once.
func (e *end) take(t *testing.T, family, count, room int) []got {
	t.Helper()
	of := 0
	if family == unix.AF_INET6 {
		of = 1
	}
	result := make(chan []got)
	go func() {
		var all []got
		packets, sizes := make([][]byte, room), make([]int, room)
		endpoints := make([]conn.Endpoint, room)
		for i := range packets {
			packets[i] = make([]byte, largest)
		}
		for len(all) < count {
			n, err := e.receive[of](packets, sizes, endpoints)
			if err != nil {
				break
			}
			for i := range n {
				all = append(all, got{bytes.Clone(packets[i][:sizes[i]]), endpoints[i].(*endpoint)})
			}
		}
		result <- all
	}()
	select {
	case all := <-result:
		return all
	case <-time.After(10 * time.Second):
		t.Fatal("what was sent does not arrive")
		return nil
	}
}

// datagrams makes such of these sizes, each unlike the others.
func datagrams(sizes []int) [][]byte {
	var made [][]byte
	for i, size := range sizes {
		made = append(made, bytes.Repeat([]byte{byte(i), byte(i >> 8), 'x'}, size/3+1)[:size])
	}
	return made
}

func sizesOf(count int, size func(int) int) []int {
	var sizes []int
	for i := range count {
		sizes = append(sizes, size(i))
	}
	return sizes
}

func TestWhatIsSentArrivesInItsOrder(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	cases := map[string][]int{
		"one":             {100},
		"of one size":     sizesOf(128, func(int) int { return 1400 }),
		"the last short":  append(sizesOf(20, func(int) int { return 1400 }), 60),
		"longer at times": sizesOf(128, func(i int) int { return 1200 + 100*(i%3) }),
		"long":            sizesOf(128, func(int) int { return 9000 }),
		"the longest":     {65507, 65507, 1},
		"empty ones":      {1, 0, 0, 1},
		"any":             sizesOf(128, func(int) int { return 1 + draw.IntN(4000) }),
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		for name, sizes := range cases {
			for _, room := range []int{1, 7, conn.IdealBatchSize} {
				for _, single := range []bool{false, true} {
					title := fmt.Sprintf("%s/%s/room for %d/single %v", address, name, room, single)
					t.Run(title, func(t *testing.T) {
						one, other := opened(t), opened(t)
						to := other.at(t, address)
						one.sockets.open[to.family()].single.Store(single)
						sent := datagrams(sizes)
						if err := one.sockets.Send(sent, to); err != nil {
							t.Fatal(err)
						}
						var full [][]byte // an empty one says nothing, and is left out
						for _, each := range sent {
							if len(each) > 0 {
								full = append(full, each)
							}
						}
						all := other.take(t, to.family(), len(full), room)
						for i, each := range all {
							if !bytes.Equal(each.data, full[i]) {
								t.Fatalf("datagram %d is another", i)
							}
							if each.from.there != one.at(t, address).there {
								t.Fatalf("it came from %s", each.from.DstToString())
							}
							if each.from.SrcIP().String() != address {
								t.Fatalf("it came to %s", each.from.SrcToString())
							}
						}
					})
				}
			}
		}
	}
}

func TestBatchesAreOfOneSize(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	to := found(t, "192.0.2.1:5")
	for range 2000 {
		few := 1 + draw.IntN(5)
		sizes := sizesOf(1+draw.IntN(conn.IdealBatchSize), func(int) int {
			return 1 + draw.IntN(few)*700
		})
		box, all := new(outbox), datagrams(sizes)
		box.pack(all, to, netip.Addr{}, 0, true)
		next := 0
		for at := range box.count {
			begin, count := box.span(at, len(all))
			if begin != next || count < 1 || count > most {
				t.Fatalf("a batch of %d at %d, after %d: %v", count, begin, next, sizes)
			}
			bytes := 0
			for i := begin; i < begin+count; i++ {
				bytes += sizes[i]
				if i < begin+count-1 && sizes[i] != sizes[begin] || sizes[i] > sizes[begin] {
					t.Fatalf("datagram %d does not belong into the batch at %d: %v", i, begin, sizes)
				}
			}
			if bytes > longest {
				t.Fatalf("a batch of %d bytes: %v", bytes, sizes)
			}
			if int(box.headers[at].Iovlen) != count || (box.headers[at].Control != nil) != (count > 1) {
				t.Fatalf("a header that is not of %d", count)
			}
			next = begin + count
		}
		if next != len(all) {
			t.Fatalf("%d of %d are sent", next, len(all))
		}
	}
}

func TestAnswersComeFromWhereOneWasAsked(t *testing.T) {
	asker, asked := opened(t), opened(t)
	ask := func(address string) *endpoint {
		if err := asker.sockets.Send(datagrams([]int{9}), asked.at(t, address)); err != nil {
			t.Fatal(err)
		}
		return asked.take(t, unix.AF_INET, 1, 1)[0].from
	}
	answer := func(to *endpoint) string {
		if err := asked.sockets.Send(datagrams([]int{9, 9, 9}), to); err != nil {
			t.Fatal(err)
		}
		return asker.take(t, unix.AF_INET, 3, 1)[2].from.DstIP().String()
	}
	from := ask("127.0.0.7")
	if answer(from) != "127.0.0.7" {
		t.Fatal("the answer comes from elsewhere")
	}
	if again := ask("127.0.0.7"); again != from {
		t.Fatal("the same way is learnt a second time")
	}
	asked.sockets.routes.changes.Add(1)
	if answer(from) != "127.0.0.1" {
		t.Fatal("after a change of routes it still comes from there")
	}
	if again := ask("127.0.0.7"); answer(again) != "127.0.0.7" {
		t.Fatal("it is not learnt again")
	}
	from = ask("127.0.0.7")
	from.ClearSrc()
	if answer(from) != "127.0.0.1" || from.SrcIP().IsValid() {
		t.Fatal("it was not forgotten")
	}
	if again := ask("127.0.0.7"); answer(again) != "127.0.0.7" {
		t.Fatal("it is not learnt again after it was forgotten")
	}
	from = ask("127.0.0.7")
	from.here = netip.MustParseAddr("192.0.2.99") // an address that this machine lost
	if answer(from) != "127.0.0.1" {
		t.Fatal("what cannot be sent from there is not sent at all")
	}
}

func TestWhatFailsKeepsNothingBack(t *testing.T) {
	one, other := opened(t), opened(t)
	sent := datagrams([]int{10, 65508, 11, 65508, 12}) // more than a datagram has room for
	err := one.sockets.Send(sent, other.at(t, "127.0.0.1"))
	if !errors.Is(err, unix.EMSGSIZE) {
		t.Fatalf("the fault is %v", err)
	}
	for i, each := range other.take(t, unix.AF_INET, 3, 1) {
		if !bytes.Equal(each.data, sent[2*i]) {
			t.Fatalf("datagram %d is another", i)
		}
	}
}

func TestOnePortInBothVersionsOfIP(t *testing.T) {
	one := opened(t)
	if len(one.receive) != 2 || one.port == 0 {
		t.Fatalf("%d sockets on port %d", len(one.receive), one.port)
	}
	if _, _, err := one.sockets.Open(0); !errors.Is(err, conn.ErrBindAlreadyOpen) {
		t.Fatalf("a second time: %v", err)
	}
}

func TestAPortThatIsTakenInOneVersionIsGivenBackInTheOther(t *testing.T) {
	taken, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).Port
	made, err := newSockets()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := made.Open(uint16(port)); !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("a port that is taken: %v", err)
	}
	free, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatalf("its socket for IPv4 stayed open: %v", err)
	}
	free.Close()
}

func TestClosingEndsTheWait(t *testing.T) {
	one := opened(t)
	ended := make(chan error)
	for _, receive := range one.receive {
		go func() {
			_, err := receive([][]byte{make([]byte, 9)}, make([]int, 1), make([]conn.Endpoint, 1))
			ended <- err
		}()
	}
	time.Sleep(10 * time.Millisecond) // most of the time they wait by then; it holds before, too
	if err := one.sockets.Close(); err != nil {
		t.Fatal(err)
	}
	for range one.receive {
		select {
		case err := <-ended:
			if !errors.Is(err, net.ErrClosed) {
				t.Fatalf("it ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it waits still")
		}
	}
	if err := one.sockets.Send(datagrams([]int{9}), one.at(t, "127.0.0.1")); err == nil {
		t.Fatal("what is closed sends")
	}
	if _, port, err := one.sockets.Open(one.port); err != nil || port != one.port {
		t.Fatalf("it does not open again: %d, %v", port, err)
	}
}

func TestEndpointsAreReadAndWritten(t *testing.T) {
	for text, written := range map[string]string{
		"192.0.2.1:51820":          "192.0.2.1:51820",
		"[2001:db8::1]:1":          "[2001:db8::1]:1",
		"[fe80::1%lo]:9":           "[fe80::1%lo]:9",
		"[fe80::1%1]:9":            "[fe80::1%lo]:9",
		"[::ffff:192.0.2.1]:51820": "192.0.2.1:51820",
	} {
		if read := found(t, text); read.DstToString() != written {
			t.Errorf("%s is %s", text, read.DstToString())
		}
	}
	for _, text := range []string{"", "192.0.2.1", "example.com:1", "[fe80::1%nothing]:9", "192.0.2.1:70000"} {
		if read, err := parseEndpoint(text); err == nil {
			t.Errorf("%s is %s", text, read.DstToString())
		}
	}
}

func TestTheCommandLine(t *testing.T) {
	for _, words := range [][]string{{"--foreground", "wg0"}, {"-f", "wg0"}, {"wg0"}} {
		if name, stays, err := asked(words); name != "wg0" || stays != (len(words) == 2) || err != nil {
			t.Errorf("%v: %s, %v, %v", words, name, stays, err)
		}
	}
	for _, words := range [][]string{{}, {"-f"}, {"-f", ""}, {"-f", "sixteen-letters."}, {"a", "b"}, {"--help"}} {
		if name, _, err := asked(words); err == nil {
			t.Errorf("%v is %s", words, name)
		}
	}
}
