package transport

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/middleware"
)

func TestAdminStats(t *testing.T) {
	n := newAdministered(t, func(c *Config) {
		c.Policies, c.Version = rules(t, map[string]middleware.Delivery{"f": {Filter: `event == "a"`}}), "v1"
		c.Status = func() []string { return []string{"a note"} }
	})
	s, c := n.sse("channel=a&channel=f"), n.listen("ws", "channel=a")
	s.want("welcome", "*")
	for range 3 {
		n.publish("a", "x")
		s.want("", "x")
		c.want("x")
	}
	n.publish("f", "dropped", "live=1")
	n.sse("channel=a", "Last-Event-ID", "nonsense").want("welcome", "*")
	n.until("three", "", func(l sessionList) bool { return l.Total == 3 })
	var a stats
	for deadline := time.Now().Add(5 * time.Second); a.Deliveries["sse"] < 3 || a.Deliveries["ws"] < 3 || a.Dropped["filter"] == 0; {
		a = stats{}
		n.tell("/admin/stats", &a)
		if time.Now().After(deadline) {
			t.Fatalf("got %+v", a)
		}
	}
	if a.Version != "v1" || a.Uptime <= 0 || time.Since(time.UnixMilli(a.Time)) > time.Minute || !a.Ready || a.ProbeMS <= 0 || len(a.Notes) != 1 {
		t.Errorf("the node: %+v", a)
	}
	if len(a.Sessions) != 5 || a.Sessions[0] != (sessionCount{"sse", "plain", 2}) || a.Sessions[3] != (sessionCount{"ws", subprotocolJSON, 1}) ||
		a.Subscriptions["sse"] != 3 || a.Subscriptions["ws"] != 1 || a.Channels != 2 || a.MaxSessions != 100_000 {
		t.Errorf("what is there: %+v", a)
	}
	if !a.Measured || a.Deliveries["sse"] != 3 || a.Deliveries["ws"] != 3 || a.Carrying["sse"] != 3 || a.Writes["ws"] != 4 || a.Bytes["ws"] == 0 ||
		a.Publishes["http"] != 4 || a.Received["durable"] != 3 || a.Received["live"] != 1 || a.Dropped["filter"] != 1 || a.Gaps["bad_token"] != 1 {
		t.Errorf("what happened: %+v", a)
	}
	for name, h := range map[string][]uint64{"publish_to_write": a.PublishToWrite["ws"], "queue": a.Queue["ws"]} {
		sum := uint64(0)
		for _, n := range h {
			sum += n
		}
		if len(h) != len(a.Bounds)+1 || sum != 3 {
			t.Errorf("%s: %v under %v", name, h, a.Bounds)
		}
	}
	n.stop()
	if err := <-n.served; err != nil {
		t.Error(err)
	}
	n.served <- nil
	if n.tell("/admin/stats", &a); a.Ready || !a.Draining || a.Closes["server"] != 3 {
		t.Errorf("when the node has stopped: %+v", a)
	}
}

// What a node does not measure is not there.
func TestAdminStatsUnmeasured(t *testing.T) {
	n := newNode(t, nil)
	admin := httptest.NewServer(n.Admin())
	defer admin.Close()
	status, body, _ := ask(t, "GET", admin.URL, "/admin/stats", "")
	if status != 200 || !strings.Contains(body, `"measured":false`) || !strings.Contains(body, `"deliveries":{}`) {
		t.Errorf("got %d %s", status, body)
	}
	n.sse("channel=a").want("welcome", "*")
	if status, body, _ := ask(t, "GET", admin.URL, "/admin/sessions", ""); status != 200 || !strings.Contains(body, `"total":1`) || strings.Contains(body, "since") {
		t.Errorf("got %d %s", status, body)
	}
}
