package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what a process has used so far, from /proc.
type usage struct {
	cpu    float64 // seconds, user and system; the kernel's resolution is 10 ms
	rss    int64   // KiB
	writes int64   // write(2) and writev(2) calls; send(2) and sendmsg(2) are not among them
}

func readUsage(pid int) usage {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u // gone; the connections will tell
	}
	// Fields after the command's name, which may contain spaces.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	u.cpu = (user + system) / 100
	u.rss = procField(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Rss:")
	u.writes = procField(fmt.Sprintf("/proc/%d/io", pid), "syscw:")
	return u
}

// procField returns the number after name at the start of a line; 0 if there is none.
func procField(path, name string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			v, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return v
		}
	}
	return 0
}

// coreTicks returns the busy and all ticks of one core so far, whoever used it.
func coreTicks(core int) (busy, all float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "cpu"+strconv.Itoa(core) {
			continue
		}
		for i, s := range f[1:9] {
			v, _ := strconv.ParseFloat(s, 64)
			all += v
			if i != 3 && i != 4 { // idle, waiting for a disk
				busy += v
			}
		}
	}
	return busy, all
}

// ownCPU is what this tool has used, in seconds.
func ownCPU() float64 {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
}

// snapshot is everything at one time.
type snapshot struct {
	at        int64
	server    usage
	own       float64
	busy, all float64 // of the server's core
}

func takeSnapshot(pid, serverCore int) snapshot {
	s := snapshot{at: now(), server: readUsage(pid), own: ownCPU()}
	s.busy, s.all = coreTicks(serverCore)
	return s
}
