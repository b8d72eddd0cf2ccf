// Command wireguard-go is WireGuard for one interface where the kernel has none: wireguard-go's
// device, over sockets of clan's own (sockets.go says why).
//
//	wireguard-go --foreground INTERFACE
//
// It makes the interface INTERFACE, a TUN, and is configured by the socket that `wg` finds
// (https://www.wireguard.com/xplatform/). It ends on SIGTERM, or when the interface goes; the
// interface ends with it. LOG_LEVEL is verbose, error (the default) or silent.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

const usage = "usage: wireguard-go --foreground INTERFACE"

var levels = map[string]int{
	"verbose": device.LogLevelVerbose,
	"error":   device.LogLevelError,
	"silent":  device.LogLevelSilent,
}

func main() {
	name, err := asked(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := run(name); err != nil {
		fmt.Fprintf(os.Stderr, "wireguard-go for %s: %v\n", name, err)
		os.Exit(1)
	}
}

// asked returns the interface that the words of the command line name.
func asked(words []string) (string, error) {
	if len(words) != 2 || words[0] != "--foreground" && words[0] != "-f" {
		return "", errors.New(usage)
	}
	if len(words[1]) == 0 || len(words[1]) >= unix.IFNAMSIZ {
		return "", fmt.Errorf("an interface's name has 1 to %d bytes: %q", unix.IFNAMSIZ-1, words[1])
	}
	return words[1], nil
}

// run makes the interface, and is its WireGuard until something ends it.
func run(name string) error {
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
	select {
	case <-ended:
	case <-wireguard.Wait():
	case err = <-failed:
	}
	return err
}
