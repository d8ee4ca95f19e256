package transport

import (
	"cmp"
	"container/heap"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/broker"
)

// sessionRow is a session as operators are told of it (docs/operating.md).
type sessionRow struct {
	ID        string     `json:"id"`
	Transport string     `json:"transport"`
	Format    string     `json:"format"`
	State     string     `json:"state"`
	Remote    netip.Addr `json:"remote,omitzero"`
	Since     time.Time  `json:"since,omitzero"`
	Subject   string     `json:"subject,omitempty"` // of its token
	Token     string     `json:"token,omitempty"`   // its ID (jti)
	Expires   time.Time  `json:"expires,omitzero"`  // of its token

	Lag     uint64 `json:"lag"`               // the largest of its channels
	History bool   `json:"history,omitempty"` // it reads the history, and lags by more than is known
	Owed    int    `json:"owed"`              // bytes that its link has not taken
	OwedMS  int64  `json:"owed_ms"`           // for how long the oldest of them has waited
	Busy    bool   `json:"busy,omitempty"`
	Leaving bool   `json:"leaving,omitempty"` // the node drains

	Bytes     uint64 `json:"bytes"`
	Messages  uint64 `json:"messages"`
	Dropped   uint64 `json:"dropped"` // the next three together
	Conflated uint64 `json:"conflated"`
	Filtered  uint64 `json:"filtered"`
	Lapped    uint64 `json:"lapped"`
	Gaps      uint64 `json:"gaps"`
	Trace     string `json:"trace,omitempty"`

	Subscriptions int         `json:"subscriptions"`
	Channels      []cursorRow `json:"channels"` // in a list, not more than maxRowChannels
}

// cursorRow is one channel of a session.
type cursorRow struct {
	Channel string          `json:"channel"`
	Lag     uint64          `json:"lag"`
	History bool            `json:"history,omitempty"`
	Deliver json.RawMessage `json:"deliver,omitempty"`
}

// maxRowChannels bounds the channels of a session in a list of sessions: those that lag most.
const maxRowChannels = 16

// sessionSorts are the keys that sessions can be sorted by, the largest and the newest first. The first is the default.
var sessionSorts = []string{"lag", "owed", "bytes", "messages", "dropped", "conflated", "since"}

// stateNames are what operators are told of a session's state.
var stateNames = [...]string{opening: "opening", open: "open", closing: "closing", closed: "closed"}

// observer looks at the sessions of one writer in a survey.
type observer struct {
	sort      string
	channel   string // "": any
	transport string // "": any
	subject   string // "": any

	spans map[*fan]uint64 // where the logs of channels end: each is asked once, however many listen
	top   ranking
	total int
	rows  []sessionRow
}

// ranked is a session and what it is sorted by: the larger, the earlier.
type ranked struct {
	session       *session
	first, second uint64
}

func (r ranked) compare(x ranked) int {
	return cmp.Or(cmp.Compare(r.first, x.first), cmp.Compare(r.second, x.second))
}

// ranking is a heap, for container/heap, of the first few sessions by what they are sorted by; the last of them on top.
type ranking struct {
	limit int
	list  []ranked
}

func (r *ranking) Len() int           { return len(r.list) }
func (r *ranking) Less(i, j int) bool { return r.list[i].compare(r.list[j]) < 0 }
func (r *ranking) Swap(i, j int)      { r.list[i], r.list[j] = r.list[j], r.list[i] }
func (r *ranking) Push(x any)         { r.list = append(r.list, x.(ranked)) }
func (r *ranking) Pop() any           { panic("transport: a ranking is not taken from") }

func (r *ranking) add(x ranked) {
	switch {
	case len(r.list) < r.limit:
		heap.Push(r, x)
	case x.compare(r.list[0]) > 0:
		r.list[0] = x
		heap.Fix(r, 0)
	}
}

// adminSessions answers GET /admin/sessions.
func (s *Server) adminSessions(c echo.Context) error {
	q, err := adminQuery(c, "sort", "limit", "channel", "transport", "subject")
	if err != nil {
		return err
	}
	l, err := adminListing(q, sessionSorts...)
	if err != nil {
		return err
	}
	channel, transport := q.Get("channel"), q.Get("transport")
	if q.Has("channel") {
		if err := broker.CheckChannel(channel); err != nil {
			return err
		}
	}
	if q.Has("transport") && !slices.Contains(carrierNames[:streams], transport) {
		return problem(BadRequest, "transport is sse, ws or poll")
	}
	by := make([]observer, len(s.writers))
	err = s.survey(c.Request().Context(), func(i int, w *writer) func() bool {
		o := &by[i]
		*o = observer{sort: l.sort, channel: channel, transport: transport, subject: q.Get("subject"), spans: map[*fan]uint64{}, top: ranking{limit: l.limit}}
		return w.lookAt(o.look, o.end)
	})
	if err != nil {
		return err
	}
	answer := struct {
		Sessions  []sessionRow `json:"sessions"`
		Total     int          `json:"total"` // that match
		Truncated bool         `json:"truncated"`
	}{Sessions: []sessionRow{}}
	for i := range by {
		answer.Sessions = append(answer.Sessions, by[i].rows...)
		answer.Total += by[i].total
	}
	slices.SortStableFunc(answer.Sessions, func(a, b sessionRow) int { return b.rank(l.sort).compare(a.rank(l.sort)) })
	answer.Truncated = len(answer.Sessions) > l.limit || answer.Total > len(answer.Sessions)
	answer.Sessions = answer.Sessions[:min(len(answer.Sessions), l.limit)]
	return adminAnswer(c, answer)
}

// look ranks s, if it is one of those that were asked for.
func (o *observer) look(s *session) {
	if o.channel != "" && s.feed(o.channel) == nil || o.transport != "" && o.transport != carrierNames[s.over] || o.subject != "" && o.subject != s.grant().Who().Subject {
		return
	}
	o.total++
	row := sessionRow{}
	o.account(&row, s)
	r := row.rank(o.sort)
	r.session = s
	o.top.add(r)
}

// end makes rows of the sessions that are to be told.
func (o *observer) end() {
	seen := make(map[*session]bool, len(o.top.list))
	for _, r := range o.top.list {
		if r.session.state != closed && !seen[r.session] {
			seen[r.session] = true
			o.rows = append(o.rows, o.row(r.session, maxRowChannels))
		}
	}
	o.top.list = nil
}

// rank returns what a row is sorted by.
func (r *sessionRow) rank(sort string) ranked {
	switch sort {
	case "owed":
		return ranked{first: uint64(r.OwedMS), second: uint64(r.Owed)}
	case "bytes":
		return ranked{first: r.Bytes}
	case "messages":
		return ranked{first: r.Messages}
	case "dropped":
		return ranked{first: r.Dropped}
	case "conflated":
		return ranked{first: r.Conflated}
	case "since":
		return ranked{first: uint64(r.Since.UnixMilli())}
	}
	return ranked{first: r.Lag, second: uint64(r.OwedMS)}
}

// account fills in the numbers of s.
func (o *observer) account(row *sessionRow, s *session) {
	for _, f := range s.feeds {
		n, history := o.lag(f)
		row.Lag, row.History = max(row.Lag, n), row.History || history
	}
	row.Owed = len(s.rest) + len(s.out)
	if s.owedAt != 0 {
		row.OwedMS = max(0, s.server.now()-s.owedAt)
	}
	if s.busy && s.owed != nil && s.owed.bytes > 0 { // a write that blocks is under way
		row.Owed += s.owed.bytes
		row.OwedMS = max(row.OwedMS, (broker.Now()-s.owed.begin)/int64(time.Millisecond))
	}
	if l := s.ledger; l != nil {
		row.Since = time.UnixMilli(l.since).UTC()
		row.Bytes, row.Messages, row.Dropped = l.bytes, l.messages, l.dropped()
		row.Conflated, row.Filtered, row.Lapped, row.Gaps = l.conflated, l.filtered, l.lapped, l.gaps
	}
}

// lag returns how many messages f is behind what it could have by now. One that reads the history has everything in
// memory before it, at least.
func (o *observer) lag(f *feed) (messages uint64, history bool) {
	if f.group.pace != nil {
		messages, history = f.Behind(f.group.pace.newest)
	} else {
		end, known := o.spans[f.group.fan]
		if !known {
			_, end = f.Log().Span()
			o.spans[f.group.fan] = end
		}
		messages, history = f.Behind(end)
	}
	if history {
		first, next := f.Log().Span()
		messages = next - first
	}
	return messages, history
}

// row is all that there is to tell of s, with so many of its channels.
func (o *observer) row(s *session, channels int) sessionRow {
	row := sessionRow{
		ID: s.name(), Transport: carrierNames[s.over], Format: formatNames[s.format.slot()].name, State: stateNames[s.state],
		Busy: s.busy, Leaving: s.leaveAt != 0 && (s.writer.draining || s.server.now() >= s.leaveAt), Subscriptions: len(s.feeds), Channels: make([]cursorRow, 0, len(s.feeds)),
	}
	if s.ending {
		row.State = stateNames[closing]
	}
	o.account(&row, s)
	who := s.grant().Who()
	row.Subject, row.Token = who.Subject, who.TokenID
	if !who.Expires.IsZero() {
		row.Expires = who.Expires.UTC()
	}
	if l := s.ledger; l != nil {
		row.Remote = l.remote
		if l.trace != [16]byte{} {
			row.Trace = hex.EncodeToString(l.trace[:])
		}
	}
	for _, f := range s.feeds {
		x := cursorRow{Channel: f.Channel()}
		x.Lag, x.History = o.lag(f)
		if d := f.deliver(); d != "" {
			x.Deliver = json.RawMessage(d)
		}
		row.Channels = append(row.Channels, x)
	}
	slices.SortStableFunc(row.Channels, func(a, b cursorRow) int { return cmp.Compare(b.Lag, a.Lag) })
	row.Channels = row.Channels[:min(len(row.Channels), channels)]
	return row
}

// findSession has do called for the session that a request names, by its writer. An error is a *Problem.
func (s *Server) findSession(c echo.Context, do func(*observer, *session)) error {
	if _, err := adminQuery(c); err != nil {
		return err
	}
	var id [12]byte
	unknown := problem(NotFound, "this node has no session with this id: it has ended, or is on another node")
	b, err := base64.RawURLEncoding.DecodeString(c.Param("id"))
	if err != nil || len(b) != len(id) {
		return unknown
	}
	copy(id[:], b)
	found := make([]bool, len(s.writers))
	err = s.survey(c.Request().Context(), func(i int, w *writer) func() bool {
		return w.lookAt(func(ss *session) {
			if ss.id == id && !found[i] {
				found[i] = true
				do(&observer{spans: map[*fan]uint64{}}, ss)
			}
		}, func() {})
	})
	if err == nil && !slices.Contains(found, true) {
		return unknown
	}
	return err
}

// adminSession answers GET /admin/sessions/{id}, with all of its channels.
func (s *Server) adminSession(c echo.Context) error {
	var row sessionRow
	if err := s.findSession(c, func(o *observer, ss *session) { row = o.row(ss, len(ss.feeds)) }); err != nil {
		return err
	}
	return adminAnswer(c, row)
}

// adminDisconnect answers DELETE /admin/sessions/{id}. The client is told to come back, and then it may be on another node.
func (s *Server) adminDisconnect(c echo.Context) error {
	if err := s.findSession(c, func(_ *observer, ss *session) { ss.writer.dismiss(ss) }); err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.NoContent(http.StatusNoContent)
}

// dismiss sends s away because an operator wants that. One that takes nothing is cut off after closeWait.
func (w *writer) dismiss(s *session) {
	if s.state == closed {
		return
	}
	if !s.ending {
		s.out = s.format.reconnect(s.out, w.server.retry())
		w.end(s, closeRestart, "disconnected by the operator")
	}
	time.AfterFunc(closeWait*time.Millisecond, func() { w.post(func() { w.drop(s, closedByUs) }) })
}
