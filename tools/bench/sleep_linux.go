package main

import (
	"syscall"
	"time"
)

// sleepUntil sleeps until an instant. time.Sleep wakes up to a millisecond late,
// because it waits in epoll_wait, which counts milliseconds.
func sleepUntil(at time.Time) {
	for wait := time.Until(at); wait > 0; wait = time.Until(at) {
		left := syscall.NsecToTimespec(int64(wait))
		_ = syscall.Nanosleep(&left, nil) // a signal interrupts it
	}
}
