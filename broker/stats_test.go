package broker

import (
	"testing"
	"unsafe"
)

func TestWaited(t *testing.T) {
	const round = 1 << 32 * 1000 // nanoseconds until the stamp is the same again
	for _, tt := range []struct {
		name    string
		arrived uint32
		now     int64
		want    int64
		noted   bool
	}{
		{"not noted", 0, 5000, 0, false},
		{"at once", 5, 5999, 0, true},
		{"later", 5, 1_005_000, 1_000_000, true},
		{"over the turn", 1<<32 - 5, round + 5000, 10_000, true},
		{"after a turn", 7, round + 9000, 2000, true},
	} {
		var m Message
		m.arrived.Store(tt.arrived)
		if got, noted := m.Waited(tt.now); noted != tt.noted || noted && got != tt.want {
			t.Errorf("%s: got %d, %v, want %d, %v", tt.name, got, noted, tt.want, tt.noted)
		}
	}
	var m Message
	before := Now()
	m.arrive()
	first := m.arrived.Load()
	m.arrive()
	if m.arrived.Load() != first {
		t.Error("arriving a second time counts")
	}
	if waited, _ := m.Waited(Now()); waited < 0 || waited > Now()-before+1000 {
		t.Errorf("waited %d ns of %d", waited, Now()-before)
	}
}

// A message is held by the thousand: what grows it must be worth it.
func TestMessageSize(t *testing.T) {
	if n := unsafe.Sizeof(Message{}); n > 224 {
		t.Errorf("a message takes %d bytes, more than the allocator's 224", n)
	}
}
