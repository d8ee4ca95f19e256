package transport

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/middleware"
)

// channelRow is a channel as operators are told of it (docs/operating.md).
type channelRow struct {
	Channel     string           `json:"channel"`
	Pattern     string           `json:"pattern"` // of the rule that matches; "": none does
	State       string           `json:"state"`
	Subscribers subscriberCounts `json:"subscribers"`
	Policies    []policyRow      `json:"policies"` // what is in force for how many of them
	Messages    int              `json:"messages"` // in memory
	Bytes       int              `json:"bytes"`
	Received    uint64           `json:"received"`           // since this node listens
	Position    string           `json:"position,omitempty"` // the newest

	log  *broker.Log
	last broker.Position
}

// subscriberCounts is how many sessions listen, by transport.
type subscriberCounts struct {
	SSE int `json:"sse"`
	WS  int `json:"ws"`
}

// policyRow is one policy at work on a channel.
type policyRow struct {
	Deliver     json.RawMessage `json:"deliver"`
	Subscribers int             `json:"subscribers"`
}

// channelSorts are the keys that channels can be sorted by; the first is the default. What is equal is sorted by name.
var channelSorts = []string{"subscribers", "received", "messages", "bytes", "name"}

// adminChannels answers GET /admin/channels: the channels that this node has a log of.
func (s *Server) adminChannels(c echo.Context) error {
	q, err := adminQuery(c, "sort", "limit", "prefix")
	if err != nil {
		return err
	}
	l, err := adminListing(q, channelSorts...)
	if err != nil {
		return err
	}
	rows, err := s.listChannels(c, q)
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b channelRow) int {
		return cmp.Or(-cmp.Compare(a.rank(l.sort), b.rank(l.sort)), strings.Compare(a.Channel, b.Channel))
	})
	total := len(rows)
	rows = rows[:min(total, l.limit)]
	if err := s.findPolicies(c, rows); err != nil {
		return err
	}
	return adminAnswer(c, struct {
		Channels  []channelRow `json:"channels"`
		Total     int          `json:"total"` // that match
		Truncated bool         `json:"truncated"`
	}{rows, total, total > len(rows)})
}

// rank is what a row is sorted by, the largest first.
func (r *channelRow) rank(sort string) uint64 {
	switch sort {
	case "subscribers":
		return uint64(r.Subscribers.SSE + r.Subscribers.WS)
	case "received":
		return r.Received
	case "messages":
		return uint64(r.Messages)
	case "bytes":
		return uint64(r.Bytes)
	}
	return 0
}

// listChannels returns the channels whose names begin as asked for, with what their logs and the writers say.
func (s *Server) listChannels(c echo.Context, q url.Values) ([]channelRow, error) {
	type listeners struct {
		log *broker.Log
		n   subscriberCounts
	}
	prefix := q.Get("prefix")
	by := make([][]listeners, len(s.writers))
	err := s.survey(c.Request().Context(), func(i int, w *writer) func() bool {
		fans := slices.AppendSeq(make([]*fan, 0, len(w.fans)), maps.Values(w.fans))
		by[i] = make([]listeners, 0, len(fans))
		return func() bool {
			for b := (budget{begin: time.Now()}); len(fans) > 0; {
				f := fans[0]
				fans = fans[1:]
				if strings.HasPrefix(f.log.Channel(), prefix) {
					by[i] = append(by[i], listeners{f.log, subscriberCounts{SSE: f.listeners() - int(f.ws), WS: int(f.ws)}})
				}
				if b.spent() {
					return true
				}
			}
			return false
		}
	})
	if err != nil {
		return nil, err
	}
	counts := make(map[*broker.Log]subscriberCounts, len(by[0]))
	for _, list := range by {
		for _, x := range list {
			n := counts[x.log]
			counts[x.log] = subscriberCounts{SSE: n.SSE + x.n.SSE, WS: n.WS + x.n.WS}
		}
	}
	logs := s.broker.Logs()
	rows := make([]channelRow, 0, len(logs))
	for _, log := range logs {
		if !strings.HasPrefix(log.Channel(), prefix) {
			continue
		}
		st := log.Inspect()
		rows = append(rows, channelRow{Channel: log.Channel(), State: st.State, Messages: st.Messages, Bytes: st.Bytes,
			Received: st.Received, Subscribers: counts[log], log: log, last: st.Last})
	}
	return rows, nil
}

// listeners is how many feeds the fan has.
func (f *fan) listeners() int {
	n := len(f.plain.feeds)
	if f.paced != nil {
		for _, g := range f.paced.groups {
			n += len(g.feeds)
		}
	}
	return n
}

// findPolicies fills in what is told only of those channels that are listed.
func (s *Server) findPolicies(c echo.Context, rows []channelRow) error {
	by := make([]map[*broker.Log]map[string]int, len(s.writers))
	err := s.survey(c.Request().Context(), func(i int, w *writer) func() bool {
		by[i] = map[*broker.Log]map[string]int{}
		next := 0
		return func() bool {
			for b := (budget{begin: time.Now()}); next < len(rows); {
				if f := w.fans[rows[next].Channel]; f != nil {
					by[i][f.log] = f.policies()
				}
				next++
				if b.spent() {
					return true
				}
			}
			return false
		}
	})
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		if e, err := s.policies.For(r.Channel, middleware.Delivery{}); err == nil {
			r.Pattern = e.Pattern
		}
		n := map[string]int{}
		for _, logs := range by {
			for deliver, followers := range logs[r.log] {
				n[deliver] += followers
			}
		}
		r.Position, r.Policies = r.last.String(), []policyRow{}
		for _, deliver := range slices.Sorted(maps.Keys(n)) {
			r.Policies = append(r.Policies, policyRow{json.RawMessage(deliver), n[deliver]})
		}
		slices.SortStableFunc(r.Policies, func(a, b policyRow) int { return cmp.Compare(b.Subscribers, a.Subscribers) })
	}
	return nil
}

// policies is how many feeds of the fan follow what, as a JSON object.
func (f *fan) policies() map[string]int {
	n := map[string]int{}
	if len(f.plain.feeds) > 0 {
		n["{}"] = len(f.plain.feeds)
	}
	if f.paced != nil {
		for _, g := range f.paced.groups {
			n[g.pace.deliver] += len(g.feeds)
		}
	}
	return n
}
