package transport

import (
	"testing"
	"time"

	"sluice/broker"
)

// A client that does not read shows in the metrics as long as it does not, and only with its transport.
func TestLagMeasured(t *testing.T) {
	n := newNode(t, metered)
	n.listen("ws", "channel=a").close()
	_, slow := n.stalled("channel=b")
	calm := readings{"sluice_lag_messages": 0, "sluice_lag_seconds": 0, "sluice_sessions_owing": 0}
	n.wantMetrics(calm)
	const more = 20
	sent := n.block("b")
	for range more {
		n.put(&broker.Message{Channel: "b", Data: []byte("x")}, false)
	}
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		m := n.metrics()
		if lag := m.sum("sluice_lag_messages", `transport="sse"`); lag >= more && lag <= more+10 &&
			m.sum("sluice_lag_seconds", `transport="sse"`) > 0.05 && m.sum("sluice_sessions_owing", `transport="sse"`) == 1 &&
			m.sum("sluice_lag_messages", `transport="ws"`) == 0 && m.sum("sluice_sessions_owing", `transport="ws"`) == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("after 10 s: lag %v messages, %v s", m.sum("sluice_lag_messages"), m.sum("sluice_lag_seconds"))
		}
	}
	for range sent + more {
		slow.want("", "*")
	}
	n.wantMetrics(calm)
}
