//go:build !linux

package e2e

import "syscall"

func orphanless() *syscall.SysProcAttr { return nil }
