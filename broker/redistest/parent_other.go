//go:build unix && !linux

package redistest

import "syscall"

// dieWithParent does nothing here: only Linux can tie a child's life to its parent's.
func dieWithParent() *syscall.SysProcAttr { return nil }
