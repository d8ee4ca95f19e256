package transport

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawWrite is write(2) on a non-blocking descriptor without telling the scheduler: entering and
// leaving a system call through it costs 0.1 to 0.2 µs, which shows when one write is 5.
func rawWrite(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
