package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAttackLists: what is right in a list of subscriptions opens nothing of what is wrong in it, and the other way round.
func TestAttackLists(t *testing.T) {
	t.Parallel()
	f := newFort(t)
	grants := func(sub string) string {
		return f.signed(headEd, f.good().with(claims{"sub": sub, "subscribe": []string{"private:{sub}", "shared"}}))
	}
	alice := f.guest(t, "sse", grants("alice"), "private:alice", "shared")
	f.post(t, "private:alice", "before")
	token := alice.until(t, "message").token
	first := f.post(t, "private:alice", "for alice only")
	alice.close()
	bob := grants("bob")
	shared := claims{"channel": "shared"}
	for _, tt := range []struct {
		name, token, code string
		list              claims
	}{
		{"another's channel", bob, "forbidden", claims{"subscriptions": []claims{{"channel": "private:alice"}, shared}}},
		{"from another's token", bob, "forbidden", claims{"subscriptions": []claims{{"channel": "private:alice"}, shared}, "resume": token}},
		{"from a position", bob, "forbidden", claims{"subscriptions": []claims{shared, {"channel": "private:alice", "since": first.Position}}}},
		{"by another's token", bob, "forbidden", claims{"subscriptions": []claims{{"channel": "private:alice", "signed": f.room("alice", "private:alice")}, shared}}},
		{"by another's token for all", bob, "forbidden", claims{"subscriptions": []claims{{"channel": "private:alice"}, shared}, "signed": []string{f.room("alice", "private:alice")}}},
		{"by a token for another", bob, "forbidden", claims{"subscriptions": []claims{{"channel": "private:alice", "signed": f.room("bob", "shared")}, shared}}},
		{"by what is no token", bob, "unauthorized", claims{"subscriptions": []claims{{"channel": "private:alice", "signed": "x"}, shared}}},
		{"by nobody", "", "unauthorized", claims{"subscriptions": []claims{{"channel": "private:alice"}, {"channel": "public:a"}}}},
	} {
		for way, said := range map[string]string{
			"POST /sse":  f.list(t, "POST /sse", tt.token, tt.list),
			"POST /poll": f.list(t, "POST /poll", tt.token, tt.list),
			"WebSocket":  f.listBy(t, tt.token, tt.list),
		} {
			if !strings.Contains(said, `"channel":"private:alice","code":"`+tt.code+`"`) || strings.Contains(said, "only") {
				t.Errorf("%s by %s: got %q, want %s of that channel alone", tt.name, way, said, tt.code)
			}
		}
	}
	f.unharmed(t)
}

// list asks for a list of subscriptions in a body, and returns what is said in the first time.
func (f *fort) list(t *testing.T, line, token string, list claims) string {
	t.Helper()
	c := f.dial(t)
	defer c.Close()
	body := toJSON(t, list)
	head := fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", line, len(body))
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	c.send(head + "\r\n" + body)
	x, err := c.answer()
	if err != nil || x.status != http.StatusOK {
		t.Fatalf("%s: got %+v, %v", body, x, err)
	}
	f.post(t, "private:alice", "for alice only")
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	return x.body + drain(c.r)
}

// listBy is list by a command.
func (f *fort) listBy(t *testing.T, token string, list claims) (said string) {
	t.Helper()
	more := speaksJSON
	if token != "" {
		more += "Authorization: Bearer " + token + "\r\n"
	}
	c := f.upgrade(t, "", more)
	defer c.Close()
	c.send(text(toJSON(t, list.with(claims{"type": "subscribe"}))))
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	for !strings.Contains(said, `"type":"reply"`) {
		_, payload, err := c.read()
		if err != nil {
			t.Fatalf("%v after %s", err, said)
		}
		said += payload
	}
	f.post(t, "private:alice", "for alice only")
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	return said + drain(c.r)
}
