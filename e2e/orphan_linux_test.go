package e2e

import "syscall"

// orphanless has the kernel kill a child when the test process dies, however it dies.
func orphanless() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
