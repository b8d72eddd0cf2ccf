package main

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// routes counts changes of this machine's routes, addresses and interfaces (rtnetlink(7)).
type routes struct {
	changes atomic.Uint64
	events  *os.File
}

func watchRoutes() (*routes, error) {
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
		unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	watched := &routes{events: os.NewFile(uintptr(fd), "rtnetlink")}
	go watched.watch()
	return watched, nil
}

func (r *routes) watch() {
	event := make([]byte, 1) // what it says is cut off: that something changed is enough
	for {
		// What was lost (ENOBUFS) is a change, too.
		if _, err := r.events.Read(event); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		r.changes.Add(1)
	}
}
