package otel

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestTrust(t *testing.T) {
	caller := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		trust Trust
		head  sdktrace.Sampler
		want  string
		same  bool
	}{
		{TrustLink, sdktrace.AlwaysSample(), "POST /publish [server] →caller\n  publish [producer]\n", false},
		{TrustLink, sdktrace.NeverSample(), "", false}, // a stranger's flag forces nothing
		{TrustIgnore, sdktrace.AlwaysSample(), "POST /publish [server]\n  publish [producer]\n", false},
		{TrustIgnore, sdktrace.NeverSample(), "", false},
		{TrustParent, sdktrace.NeverSample(), "POST /publish [server]\n  publish [producer]\n", true},
	} {
		r := newRig(t, sdktrace.ParentBased(tt.head), func(c *TracerConfig) { c.Trust = tt.trust })
		ctx, request := r.Request(t.Context(), "POST", "/publish", "/publish", "http", caller)
		publish := r.Publish(ctx, "a", "", false, time.Now())
		publish.Published(r.clock, "", false, nil)
		request.Answered(r.clock, 200, "")
		r.want(tt.want)
		if same := strings.Contains(publish.Context().String(), caller[3:35]); same != tt.same {
			t.Errorf("%s: the trace is %v", tt.trust, publish.Context())
		}
		if publish.Context().Sampled != (tt.want != "") || publish.Context().IsZero() {
			t.Errorf("%s: the message goes on with %v", tt.trust, publish.Context())
		}
	}
}

// A message may come with a traceparent of its own, next to that of the request that brings many of them.
func TestTrustOfAMessage(t *testing.T) {
	own := "00-11111111111111111111111111111111-2222222222222222-01"
	r := newRig(t, nil, func(c *TracerConfig) { c.Trust = TrustParent })
	ctx, request := r.Request(t.Context(), "POST", "/publish", "/publish", "http", "")
	publish := r.Publish(ctx, "a", own, false, time.Now())
	publish.Published(r.clock, "", false, nil)
	request.Answered(r.clock, 503, "unavailable")
	r.want("POST /publish [server] ERROR\npublish [producer] →request\n")
	if s := r.span("publish"); s.Parent().SpanID().String() != own[36:52] || s.SpanContext().TraceID().String() != own[3:35] {
		t.Errorf("its parent is %v", s.Parent())
	}
}

func TestAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, func(c *TracerConfig) { c.Sockets = 1; c.Slow = 0 })
		d := r.Deliver(r.arrival(1))
		w := r.write(1)
		d.Wrote(w)
		synctest.Wait()
		time.Sleep(20 * time.Millisecond)
		told := d.Context().String()
		if !r.Ack(w.Session, "ws", told, Now()) || !r.Ack([12]byte{1}, "ws", told, Now()) {
			t.Error("not found")
		}
		for _, bad := range []string{"", "x", told[:3] + "00000000000000000000000000000001" + told[35:], told[:36] + "0000000000000001-01"} {
			if r.Ack(w.Session, "ws", bad, Now()) {
				t.Errorf("%q was acknowledged", bad)
			}
		}
		synctest.Wait()
		r.want(`
			deliver [consumer]
			  client-ack from=publish
			  fan-out
			  push ws
			    client-ack from=write
			    queue
			    write
			  transit
		`, "sluice.ack.from")
		for _, s := range r.spans.Ended() {
			if s.Name() != "client-ack" {
				continue
			}
			want := 21 * time.Millisecond // from the publish
			if attributesOf(s)["sluice.ack.from"].AsString() == "write" {
				want = 19 * time.Millisecond
			}
			if took := s.EndTime().Sub(s.StartTime()); took != want {
				t.Errorf("client-ack takes %v, want %v", took, want)
			}
		}
		for range 1000 {
			r.Ack(w.Session, "ws", told, Now())
		}
		synctest.Wait()
		if n := len(r.spans.Ended()); n > 6+maxDecisions {
			t.Errorf("a client has made %d spans", n)
		}
	})
}

func TestConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil, nil)
		sampled := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		c := r.Connect("sse", "GET", "/sse", "http", sampled, Now())
		c.Session("abc")
		for range 3 {
			c.Replay("news").Add(sampled)
		}
		c.Replay("news").Add(sampled[:54] + "0")
		time.Sleep(4 * time.Millisecond)
		c.End(200, "")
		c.End(200, "again")
		r.Connect("ws", "GET", "/ws", "http", "", Now()).End(403, "forbidden")
		synctest.Wait()
		r.want(`
			connect sse [server] session=abc status_code=200 →caller
			  replay message_count=4 →replayed →replayed →replayed
			connect ws [server] status_code=403 type=forbidden
		`, "http.response.status_code", "error.type", "sluice.session", "messaging.batch.message_count")
		if s := r.span("connect sse"); s.EndTime().Sub(s.StartTime()) != 4*time.Millisecond {
			t.Errorf("it took %v", s.EndTime().Sub(s.StartTime()))
		}
	})
}
