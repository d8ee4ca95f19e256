package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"sluice/broker"
)

const (
	subprotocol = "sluice.v1.json"

	// tailTimeout bounds the handshake, and the silence after it until the welcome says what to expect.
	tailTimeout = 15 * time.Second
	// maxFrame bounds a frame from the node: the largest payload in the worst of encodings.
	maxFrame = 512 << 20

	backoffFirst = 250 * time.Millisecond
	backoffMost  = 15 * time.Second
)

// tail follows channels over any number of connections.
type tail struct {
	base     string
	token    bearer
	channels []string
	resume   string // token for the first subscription
	asJSON   bool   // print envelopes
	out, err io.Writer

	positions map[string]string // after which to go on, by channel
	delay     time.Duration     // the node asked to stay away this long; 0: it did not
	welcomed  bool              // the newest connection got as far as the welcome
}

func tailCommand() *command {
	flags, f := newFlags("tail"), &tail{positions: map[string]string{}}
	flags.StringVar(&f.base, "url", defaultURL, "`URL` of a node")
	token := addBearer(flags)
	flags.StringVar(&f.resume, "resume", "", "go on after what this resume `token` has seen")
	flags.BoolVar(&f.asJSON, "json", false, "print envelopes, with position, event and key, one JSON object a line")
	return &command{"tail", "CHANNEL…", "print the messages of channels as they come, one a line", flags,
		func(ctx context.Context, t *terminal, args []string) error {
			if len(args) == 0 {
				return usagef("sluice tail needs a channel; write sluice tail CHANNEL")
			}
			for _, channel := range args {
				if err := broker.CheckChannel(channel); err != nil {
					return &usageError{fmt.Errorf("%q: %w", channel, err)}
				}
			}
			f.channels, f.token, f.out, f.err = args, token.or(t.env), t.out, t.err
			return f.run(ctx)
		}}
}

// run follows until ctx ends, which is no error, or until there is no point in coming back.
func (f *tail) run(ctx context.Context) error {
	backoff := backoffFirst
	for {
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if final(err) {
			return err
		}
		if f.welcomed {
			backoff = backoffFirst
		}
		wait := f.delay
		if wait == 0 {
			// Jitter over the whole of it: what went away at once must not come back at once.
			wait = backoff/2 + rand.N(backoff)
			backoff = min(2*backoff, backoffMost)
		}
		fmt.Fprintf(f.err, "sluice: %s; next try in %s\n", printable(err.Error()), wait.Round(10*time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// follow serves one connection and returns why it ended, never nil.
func (f *tail) follow(ctx context.Context) error {
	f.delay, f.welcomed = 0, false
	conn, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { hangUp(conn) })
	defer stop()
	silence := tailTimeout
	alive := func() { _ = conn.SetReadDeadline(time.Now().Add(silence)) }
	conn.SetPingHandler(func(data string) error {
		alive()
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(tailTimeout))
	})
	if err := f.subscribe(conn); err != nil {
		return err
	}
	for {
		alive()
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return f.lost(err)
		}
		if kind != websocket.TextMessage {
			continue
		}
		heartbeat, err := f.take(data)
		if err != nil {
			return err
		}
		if heartbeat > 0 {
			silence = heartbeat*5/2 + time.Second
		}
	}
}

// hangUp says goodbye and cuts the line, so that a read that waits returns.
func hangUp(conn *websocket.Conn) {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second)) // as a courtesy
	_ = conn.Close()
}

func (f *tail) dial(ctx context.Context) (*websocket.Conn, error) {
	u, err := parseBase(f.base)
	if err != nil {
		return nil, err
	}
	u = u.JoinPath("ws")
	u.Scheme = strings.Replace(u.Scheme, "http", "ws", 1)
	dialer := websocket.Dialer{
		Proxy:            http.ProxyFromEnvironment,
		HandshakeTimeout: tailTimeout,
		Subprotocols:     []string{subprotocol},
	}
	head := http.Header{}
	f.token.show(head)
	conn, res, err := dialer.DialContext(ctx, u.String(), head)
	if errors.Is(err, websocket.ErrBadHandshake) {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // gorilla keeps the first KiB, which holds any problem
		return nil, problem(res, body)
	}
	if err != nil {
		return nil, unreachable(f.base, err)
	}
	if conn.Subprotocol() != subprotocol {
		_ = conn.Close()
		return nil, &refusal{fmt.Errorf("%s does not speak %s; is it a node of Sluice?", f.base, subprotocol), true}
	}
	conn.SetReadLimit(maxFrame)
	return conn, nil
}

// subscribeCommand asks for channels: all with a token, or one, with the position to go on after.
type subscribeCommand struct {
	Type     string   `json:"type"`
	Ref      int      `json:"ref"`
	Channel  string   `json:"channel,omitempty"`
	Since    string   `json:"since,omitempty"`
	Channels []string `json:"channels,omitempty"`
	Resume   string   `json:"resume,omitempty"`
}

func (f *tail) subscribe(conn *websocket.Conn) error {
	if f.resume != "" && len(f.positions) == 0 {
		return conn.WriteJSON(&subscribeCommand{Type: "subscribe", Ref: 1, Channels: f.channels, Resume: f.resume})
	}
	for i, channel := range f.channels {
		c := &subscribeCommand{Type: "subscribe", Ref: i + 1, Channel: channel, Since: f.positions[channel]}
		if err := conn.WriteJSON(c); err != nil {
			return err
		}
	}
	return nil
}

// frame is what a node sends, all types in one.
type frame struct {
	Type      string
	Channel   string
	Position  string
	Data      string
	Data64    []byte
	From, To  string
	Reason    string
	Code      string
	Detail    string
	Heartbeat float64 // seconds
	Delay     int     // ms
	Channels  json.RawMessage
}

// take handles one frame. It returns the heartbeat of a welcome, and an error if the connection has served.
func (f *tail) take(data []byte) (heartbeat time.Duration, err error) {
	var m frame
	if err := json.Unmarshal(data, &m); err != nil {
		return 0, fmt.Errorf("a frame that is not %s: %w", subprotocol, err)
	}
	switch m.Type {
	case "welcome":
		f.welcomed = true
		return time.Duration(m.Heartbeat * float64(time.Second)), nil
	case "message":
		return 0, f.print(&m, data)
	case "gap":
		text := fmt.Sprintf("gap in %s: messages may be missing after %s (%s)", m.Channel, orUnknown(m.From), m.Reason)
		fmt.Fprintf(f.err, "sluice: %s\n", printable(text))
	case "reply":
		return 0, f.joined(m.Channels)
	case "reconnect":
		f.delay = time.Duration(m.Delay) * time.Millisecond
	case "error":
		return 0, &refusal{fmt.Errorf("%s: %s", m.Code, m.Detail), !passing(m.Code)}
	}
	return 0, nil
}

// passing reports whether a problem with this code may be gone a little later.
func passing(code string) bool {
	switch code {
	case "rate_limited", "internal", "unavailable", "at_capacity", "draining":
		return true
	}
	return false
}

// joined notes where the channels begin, so that a connection that breaks before their first
// message loses nothing either.
func (f *tail) joined(channels json.RawMessage) error {
	var list []struct{ Channel, Position string }
	if len(channels) == 0 {
		return nil
	}
	if err := json.Unmarshal(channels, &list); err != nil {
		return fmt.Errorf("a reply that is not %s: %w", subprotocol, err)
	}
	for _, c := range list {
		if c.Position != "" {
			f.positions[c.Channel] = c.Position
		}
	}
	return nil
}

// print prints a message and then moves its channel's position: what could not be printed is asked for again.
func (f *tail) print(m *frame, envelope []byte) error {
	var text string
	switch {
	case f.asJSON:
		text = escapeControl(string(envelope), jsonEscape)
	case m.Data64 != nil:
		text = "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(m.Data64)
	default:
		text = printable(m.Data)
	}
	if len(f.channels) > 1 && !f.asJSON {
		text = m.Channel + "\t" + text
	}
	if _, err := io.WriteString(f.out, text+"\n"); err != nil {
		return &refusal{fmt.Errorf("write to standard output: %w", err), true}
	}
	if m.Position != "" {
		f.positions[m.Channel] = m.Position
	}
	return nil
}

// lost words the end of a connection. Some close codes say that there is no point in coming back.
func (f *tail) lost(err error) error {
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return fmt.Errorf("connection to %s lost: %w", f.base, err)
	}
	err = fmt.Errorf("%s closed the connection with %d %s", f.base, closed.Code, closed.Text)
	switch closed.Code {
	case websocket.CloseProtocolError, websocket.CloseInvalidFramePayloadData, websocket.CloseMessageTooBig, 4400, 4403:
		return &refusal{err, true}
	}
	return err
}

func orUnknown(position string) string {
	if position == "" {
		return "an unknown position"
	}
	return position
}
