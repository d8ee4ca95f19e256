package transport

import (
	"fmt"
	"testing"
	"time"

	"sluice/broker"
)

// TestNoHistory: whose token gives no history gets what is published from now on, is told that there was more, and can't ask for it.
func TestNoHistory(t *testing.T) {
	for _, over := range transports {
		t.Run(over, func(t *testing.T) {
			n, d := newGuarded(t, nil)
			all, none := d.issue("all", "alice", time.Hour, "news"), d.issue("none", "bob", time.Hour, "news")
			d.by["none"].NoHistory = true
			first := n.listen(over, "channel=news&"+all)
			n.say("news", "1")
			first.want("1")
			token := first.token
			if over == "ws" {
				first.ws.send(`{"type":"ping"}`)
				token = first.ws.want("reply").Token
			}
			n.say("news", "2")
			first.want("2")
			entitled := n.listen(over, "channel=news&"+all+"&resume="+token)
			entitled.want("2")
			c := n.listen(over, "channel=news&"+none+"&resume="+token)
			if f := c.next(); f.Type != "gap" || f.Channel != "news" || f.Reason != string(broker.NoHistory) {
				t.Fatalf("got %+v, want a gap: there was something", f)
			}
			n.say("news", "3")
			c.want("3")
			fresh := n.listen(over, "channel=news&"+none)
			n.say("news", "4")
			fresh.want("4")
			c.want("4")
		})
	}
	t.Run("command", func(t *testing.T) {
		n, d := newGuarded(t, nil)
		query := d.issue("none", "bob", time.Hour, "news")
		d.by["none"].NoHistory = true
		at := n.put(&broker.Message{Channel: "news", Data: []byte("1")}, false)
		token := n.listen("ws", "channel=news&"+d.issue("all", "alice", time.Hour, "news")).welcome.Token
		c := n.listen("ws", query)
		for _, field := range []string{fmt.Sprintf(`"since":%q`, at), fmt.Sprintf(`"resume":%q`, token)} {
			c.ws.send(`{"type":"subscribe","channel":"news",` + field + `}`)
			if f := c.read(); f.Code != string(Forbidden) {
				t.Errorf("%s: got %+v, want %s", field, f, Forbidden)
			}
		}
	})
}
