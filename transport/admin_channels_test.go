package transport

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// channelList is the answer of GET /admin/channels.
type channelList struct {
	Channels  []channelRow
	Total     int
	Truncated bool
}

func (n *administered) channels(query string) (l channelList) {
	n.t.Helper()
	n.tell("/admin/channels?"+query, &l)
	return l
}

func TestAdminChannels(t *testing.T) {
	n := newAdministered(t, func(c *Config) {
		c.Policies = rules(t, map[string]middleware.Delivery{"prices.*": {Conflate: middleware.ConflateKey, Interval: 100 * time.Millisecond}})
	})
	if l := n.channels(""); l.Channels == nil || l.Total != 0 || l.Truncated {
		t.Errorf("without channels: %+v", l)
	}
	for _, transport := range []string{"sse", "sse", "ws"} {
		n.listen(transport, "channel=prices.a&channel=news")
	}
	n.listen("ws", "channel=prices.a&rate=1/s")
	leaves := n.ws("channel=news", subprotocolJSON)
	leaves.want("welcome")
	leaves.send(`{"type":"unsubscribe","ref":1,"channel":"news"}`)
	leaves.want("reply")
	var last broker.Position
	for i := range 5 {
		last = n.put(&broker.Message{Channel: "news", Data: fmt.Append(nil, i)}, false)
		n.put(&broker.Message{Channel: "prices.a", Data: fmt.Append(nil, i)}, true)
	}
	n.put(&broker.Message{Channel: "prices.a", Data: []byte("5")}, true)

	l := n.channels("")
	if l.Total != 2 || l.Truncated || l.Channels[0].Channel != "prices.a" {
		t.Fatalf("got %+v", l)
	}
	prices, news := l.Channels[0], l.Channels[1]
	if news.Subscribers != (subscriberCounts{SSE: 2, WS: 1}) || news.Pattern != "" || news.State != "live" || news.Messages != 5 || news.Received != 5 ||
		news.Bytes < 5*256 || news.Position != last.String() || len(news.Policies) != 1 || string(news.Policies[0].Deliver) != `{}` || news.Policies[0].Subscribers != 3 {
		t.Errorf("news: %+v", news)
	}
	if prices.Subscribers != (subscriberCounts{SSE: 2, WS: 2}) || prices.Pattern != "prices.*" || prices.Received != 6 || len(prices.Policies) != 2 ||
		string(prices.Policies[0].Deliver) != `{"conflate":"key","rate":"10/s"}` || prices.Policies[0].Subscribers != 3 ||
		string(prices.Policies[1].Deliver) != `{"conflate":"key","rate":"1/s"}` || prices.Policies[1].Subscribers != 1 {
		t.Errorf("prices: %+v", prices)
	}
	for query, want := range map[string][]string{
		"sort=name": {"news", "prices.a"}, "sort=received": {"prices.a", "news"}, "sort=messages": {"prices.a", "news"},
		"prefix=n": {"news"}, "prefix=z": nil, "limit=1": {"prices.a"}, "sort=bytes&limit=1000": {"prices.a", "news"},
	} {
		l := n.channels(query)
		var got []string
		for _, c := range l.Channels {
			got = append(got, c.Channel)
		}
		if !slices.Equal(got, want) || l.Truncated != (query == "limit=1") || l.Total < len(want) {
			t.Errorf("%s: got %v of %d, want %v", query, got, l.Total, want)
		}
	}
}
