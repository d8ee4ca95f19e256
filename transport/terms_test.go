package transport

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
	"sluice/middleware"
)

func TestDeliveryRefusals(t *testing.T) {
	n := newNode(t, nil)
	handshake := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for _, tt := range []struct{ query, why string }{
		{"rate=fast", "not a rate"},
		{"batch=soon", "not a duration"},
		{"conflate=everything", "there is no such conflation"},
		{"filter=event+%3D%3D", "half an expression"},
		{"rate[b]=5/s", "the channel is not asked for"},
		{"rate=5/s&rate[a]=quick", "the stronger one is no rate"},
	} {
		for path, header := range map[string][]string{"/sse": nil, "/ws": handshake} {
			status, _, body := get(t, n.url(path+"?channel=a&"+tt.query), header...)
			if status != 400 || !strings.Contains(body, `"code":"bad_delivery"`) {
				t.Errorf("%s?%s: got %d %s, want 400 bad_delivery: %s", path, tt.query, status, body, tt.why)
			}
		}
	}
	c := n.ws("", subprotocolJSON)
	c.want("welcome")
	for i, fields := range []string{`"rate":"fast"`, `"batch":"1"`, `"conflate":"all"`, `"filter":"("`} {
		c.send(fmt.Sprintf(`{"type":"subscribe","ref":%d,"channel":"a",%s}`, i, fields))
		if e := c.want("error"); e.Code != string(BadDelivery) || e.Ref != float64(i) || e.Detail == "" {
			t.Errorf("%s: got %+v", fields, e)
		}
	}
	c.send(`{"type":"subscribe","ref":"none","channel":"a"}`)
	if r := c.want("reply"); r.Ref != "none" || strings.Contains(string(r.Channels), "deliver") {
		t.Errorf("reply %+v %s", r, r.Channels)
	}
}

func TestDeliveryIsTold(t *testing.T) {
	policies := rules(t, map[string]middleware.Delivery{"prices.*": {Conflate: middleware.ConflateKey, Interval: 500 * time.Millisecond}})
	n := newNode(t, func(c *Config) { c.Policies = policies })
	for _, tt := range []struct{ query, want, why string }{
		{"channel=news", ``, "nothing is in force"},
		{"channel=prices.a", `{"prices.a":{"conflate":"key","rate":"2/s"}}`, "the operator's policy"},
		{"channel=prices.a&rate=100/s&conflate=none", `{"prices.a":{"conflate":"key","rate":"2/s"}}`, "the policy is stricter"},
		{"channel=prices.a&rate=1/s&conflate=latest", `{"prices.a":{"conflate":"latest","rate":"1/s"}}`, "the wish is stricter"},
		{"channel=news&channel=prices.a&rate[news]=5/s", `{"news":{"rate":"5/s"},"prices.a":{"conflate":"key","rate":"2/s"}}`, "a wish for one channel"},
		{"channel=a&channel=b&rate=5/s&rate[b]=1/s", `{"a":{"rate":"5/s"},"b":{"rate":"1/s"}}`, "the wish for one channel is the stronger"},
		{"channel=a&batch=50ms,10&" + keptQuery, `{"a":{"filter":"event == \"kept\"","batch":"50ms,10"}}`, ""},
	} {
		for _, transport := range transports {
			c := n.listen(transport, tt.query)
			if got := string(c.welcome.Deliver); !sameJSON(got, tt.want) {
				t.Errorf("%s %s: welcome says %s, want %s: %s", transport, tt.query, got, tt.want, tt.why)
			}
			if transport == "sse" {
				if got := c.sse.resp.Header.Get(deliverHeader); (got != "") != (tt.want != "") || tt.want != "" && !strings.Contains(got, `"`) {
					t.Errorf("%s: header %q, want something if there is something to tell: %s", tt.query, got, tt.want)
				}
			}
			c.close()
		}
	}
	status, h, _ := get(t, n.url("/ws?channel=prices.a"), "Connection", "Upgrade")
	if status != http.StatusUpgradeRequired || h.Get(deliverHeader) != "" {
		t.Errorf("a refusal says %d %q", status, h.Get(deliverHeader))
	}
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second}
	plain, resp, err := d.Dial("ws://"+n.addr+"/ws?channel=prices.a", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = plain.Close()
	if h := resp.Header.Get(deliverHeader); !strings.HasPrefix(h, `"prices.a";`) {
		t.Errorf("the handshake of a WebSocket says %q", h)
	}
	c := n.ws("", subprotocolJSON)
	c.want("welcome")
	for _, tt := range []struct{ fields, want string }{
		{`"channel":"a"`, `[{"channel":"a"}]`},
		{`"channel":"a","rate":"5/s"`, `[{"channel":"a","deliver":{"rate":"5/s"}}]`},
		{`"channels":["a","prices.a"],"conflate":"latest"`, `[{"channel":"a","deliver":{"conflate":"latest"}},{"channel":"prices.a","deliver":{"conflate":"latest","rate":"2/s"}}]`},
		{`"channel":"a"`, `[{"channel":"a"}]`},
	} {
		c.send(`{"type":"subscribe",` + tt.fields + `}`)
		var got []map[string]any
		r := c.want("reply")
		if err := json.Unmarshal(r.Channels, &got); err != nil {
			t.Fatal(err)
		}
		for _, g := range got {
			delete(g, "position")
		}
		if text, _ := json.Marshal(got); !sameJSON(string(text), tt.want) {
			t.Errorf("%s: reply says %s, want %s", tt.fields, text, tt.want)
		}
	}
}

// A head that is too long is refused by proxies.
func TestDeliveryHeaderIsBounded(t *testing.T) {
	n := newNode(t, nil)
	q := "rate=5/s"
	for i := range 60 {
		q += fmt.Sprintf("&channel=%s%d", strings.Repeat("x", 80), i)
	}
	c := n.listen("sse", q)
	if h := c.sse.resp.Header.Get(deliverHeader); h != "" {
		t.Errorf("a header of %d bytes", len(h))
	}
	if !strings.Contains(string(c.welcome.Deliver), "59") {
		t.Error("the welcome does not tell it")
	}
}

func sameJSON(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return fmt.Sprint(x) == fmt.Sprint(y) // maps are printed in order
}

// A wish is changed in place: nothing is lost or repeated, and what was held back comes.
func TestDeliveryChangesInPlace(t *testing.T) {
	n := newNode(t, func(c *Config) { c.CommandRate, c.CommandBurst = 1e6, 1e6 })
	c := n.listen("ws", "channel=a")
	const messages = 5000
	room := make(chan struct{}, 100) // what is held back must not fall out of the history
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range messages {
			select {
			case room <- struct{}{}:
				n.putNumbers("a", i, i+1)
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(publishing.Wait)
	wishes := []string{`"rate":"50/s"`, `"batch":"5ms,7"`, ``, `"batch":"1s"`, `"rate":"1/s"`, `"rate":"1/s","batch":"2s"`}
	next, changes, replies := 0, 0, 0
	for next < messages {
		f := c.next()
		if f.Type == "message" {
			if f.Data != strconv.Itoa(next) {
				t.Fatalf("got %s, want %d, after %d changes", f.Data, next, replies)
			}
			next++
			<-room
		} else if f.Type == "reply" {
			replies++
		} else {
			t.Fatalf("got %+v", f)
		}
		if changes == replies { // also while all is held back
			fields := wishes[changes%len(wishes)]
			if fields != "" {
				fields = "," + fields
			}
			c.ws.send(`{"type":"subscribe","channel":"a"` + fields + `}`)
			changes++
		}
	}
	if c.skipped != 0 {
		t.Errorf("%d were told as skipped though nothing was", c.skipped)
	}
	if replies < 5 {
		t.Errorf("only %d changes", replies)
	}
}

// New policies take hold of who is connected; nothing is lost or repeated by it.
func TestReload(t *testing.T) {
	sets := []map[string]middleware.Delivery{
		{},
		{"a": {Window: 20 * time.Millisecond}},
		{"*": {Interval: 10 * time.Millisecond}},
		{"a": {Window: 5 * time.Millisecond, Messages: 3}},
		{"a": {Slow: middleware.Slow{Ring: 100_000, Then: broker.ThenDisconnect}}},
	}
	policies := rules(t, sets[0])
	n := newNode(t, func(c *Config) { c.Policies, c.Writers = policies, 3 })
	var clients []*client
	for i := range 9 {
		q := "channel=a"
		if i%3 == 0 {
			q += "&rate=200/s"
		}
		clients = append(clients, n.listen(transports[i%2], q))
	}
	const rounds, messages = 20, 200
	for round := range rounds {
		for i := round * messages; i < (round+1)*messages; i++ {
			n.putNumbers("a", i, i+1)
			if i%50 == 0 {
				setRules(t, policies, sets[i/50%len(sets)])
				n.Reload()
			}
		}
		for i, c := range clients {
			for want := round * messages; want < (round+1)*messages; want++ {
				if f := c.next(); f.Data != strconv.Itoa(want) {
					t.Fatalf("client %d: got %+v, want %d", i, f, want)
				}
			}
			if c.skipped != 0 {
				t.Errorf("client %d was told that %d were skipped", i, c.skipped)
			}
		}
	}
	setRules(t, policies, map[string]middleware.Delivery{"a": {Filter: kept}})
	n.Reload()
	n.settled()
	n.put(&broker.Message{Channel: "a", Data: []byte("dropped")}, false)
	n.put(&broker.Message{Channel: "a", Event: "kept", Data: []byte("kept")}, false)
	for _, c := range clients {
		c.want("kept")
		if c.skipped != 1 {
			t.Errorf("%d skipped, want 1", c.skipped)
		}
	}
	setRules(t, policies, nil)
	n.Reload()
	n.settled()
	wished := 0
	n.inspect(func(w *writer) {
		for _, s := range w.sessions {
			f := s.feeds[0]
			if f.wish != nil {
				wished++
			}
			if (f.wish != nil) != (f.deliver() == `{"rate":"200/s"}`) {
				t.Errorf("with a wish %v, there is in force %q", f.wish, f.deliver())
			}
		}
	})
	if wished != 3 {
		t.Errorf("%d wishes are left, want 3", wished)
	}
}

// A token must not forget a channel whose subscribe is on its way: a client that keeps the newest token would
// start there anew.
func TestTokenKnowsPendingSubscribe(t *testing.T) {
	n := newNode(t, nil)
	n.putNumbers("p", 0, 3)
	first := n.listen("ws", "channel=p")
	for range 50 {
		c := n.ws("", subprotocolJSON)
		c.send(`{"type":"subscribe","channels":["p","other"],"resume":"` + first.token + `"}`)
		c.send(`{"type":"ping","ref":"x"}`)
		f := c.want("welcome")
		for f.Ref != "x" {
			f = c.want("")
		}
		token, err := broker.ParseToken(f.Token)
		if err != nil {
			t.Fatal(err)
		}
		if token.Of("p").IsZero() {
			t.Fatalf("the token %s does not know the channel that was being subscribed to", f.Token)
		}
		_ = c.Close()
	}
}
