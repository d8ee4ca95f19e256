package wsframe

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the package if goroutines of its tests outlive them.
func TestMain(m *testing.M) {
	code := m.Run()
	left := leftOver()
	for deadline := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(deadline); left = leftOver() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left over:\n%s\n", strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// leftOver returns the stacks that go through this package, but for that of TestMain.
func leftOver() (stacks []string) {
	b := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(stack, "/wsframe.") && !strings.Contains(stack, "wsframe.TestMain(") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}
