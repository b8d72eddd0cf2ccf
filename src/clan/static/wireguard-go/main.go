// Command wireguard-go is WireGuard for one interface where the kernel has none: wireguard-go's
// device, over sockets of clan's own (sockets.go says why).
//
//	wireguard-go [--foreground] INTERFACE
//
// Without --foreground it goes into the background once the interface is there, as wg-quick(8) has it.
//
// It makes the interface INTERFACE, a TUN, and is configured by the socket that `wg` finds
// (https://www.wireguard.com/xplatform/). It ends on SIGTERM, or when the interface goes; the
// interface ends with it. LOG_LEVEL is verbose, error (the default) or silent.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

const (
	usage = "usage: wireguard-go [--foreground] INTERFACE"
	// tells is set for one in the background: what came of it goes to this file descriptor.
	tells = "WIREGUARD_GO_TELLS"
	ready = "ready"
)

var levels = map[string]int{
	"verbose": device.LogLevelVerbose,
	"error":   device.LogLevelError,
	"silent":  device.LogLevelSilent,
}

func main() {
	name, foreground, err := asked(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if os.Getenv(tells) != "" {
		teller := os.NewFile(3, "teller")
		err = run(name, func() { fmt.Fprint(teller, ready); teller.Close() })
		fmt.Fprint(teller, err)
	} else if foreground {
		err = run(name, func() {})
	} else {
		err = background(name)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "wireguard-go for %s: %v\n", name, err)
		os.Exit(1)
	}
}

// asked returns the interface that the words of the command line name, and whether to stay.
func asked(words []string) (name string, foreground bool, err error) {
	if len(words) == 2 && (words[0] == "--foreground" || words[0] == "-f") {
		foreground = true
		words = words[1:]
	}
	if len(words) != 1 || strings.HasPrefix(words[0], "-") {
		return "", false, errors.New(usage)
	}
	if name = words[0]; len(name) == 0 || len(name) >= unix.IFNAMSIZ {
		return "", false, fmt.Errorf("an interface's name has 1 to %d bytes: %q", unix.IFNAMSIZ-1, name)
	}
	return name, foreground, nil
}

// background runs this program again, and waits until it has the interface.
func background(name string) error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	hears, teller, err := os.Pipe()
	if err != nil {
		return err
	}
	again := exec.Command(own, "--foreground", name)
	again.Env = append(os.Environ(), tells+"=3")
	again.ExtraFiles = []*os.File{teller}
	again.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := again.Start(); err != nil {
		return err
	}
	teller.Close()
	told, err := io.ReadAll(hears)
	if err == nil && string(told) != ready {
		err = fmt.Errorf("it did not begin: %s", told)
	}
	return err
}

// run makes the interface, and is its WireGuard until something ends it; it says when it is there.
func run(name string, begun func()) error {
	level, known := levels[os.Getenv("LOG_LEVEL")]
	if !known {
		level = device.LogLevelError
	}
	logger := device.NewLogger(level, fmt.Sprintf("(%s) ", name))
	sockets, err := newSockets()
	if err != nil {
		return fmt.Errorf("to hear of changed routes: %w", err)
	}
	tunnel, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return fmt.Errorf("to make the interface: %w", err)
	}
	file, err := ipc.UAPIOpen(name)
	if err != nil {
		tunnel.Close()
		return fmt.Errorf("to make the socket it is configured by: %w", err)
	}
	wireguard := device.NewDevice(tunnel, sockets, logger)
	defer wireguard.Close()
	control, err := ipc.UAPIListen(name, file)
	if err != nil {
		return fmt.Errorf("to listen on the socket it is configured by: %w", err)
	}
	defer control.Close()

	failed := make(chan error, 1)
	go func() {
		for {
			connection, err := control.Accept()
			if err != nil {
				failed <- fmt.Errorf("the socket it is configured by: %w", err)
				return
			}
			go wireguard.IpcHandle(connection)
		}
	}()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGTERM, unix.SIGINT)
	begun()
	select {
	case <-ended:
	case <-wireguard.Wait():
	case err = <-failed:
	}
	return err
}
