package e2e

// event is what a node says, whichever the transport.
type event struct {
	kind  string // welcome, message, gap, reply, error, heartbeat, reconnect, unavailable, denied, unsubscribed
	data  string // payload of a message
	token string // resume token; "" if it does not come with this event
	retry int    // milliseconds, SSE
	body  body   // of what is JSON
}

// body has the fields of all JSON objects that a node sends (docs/protocol.md).
type body struct {
	Type, Channel, Position, Event, Key, Data string
	Data64                                    []byte
	Ref                                       int
	Code, Detail                              string
	Session, Traceparent                      string
	Traced                                    bool
	From, To, Reason                          string
	Token                                     string
	Delay                                     int
	Skipped                                   int
	Channels                                  []any
	Deliver                                   map[string]any // of a welcome, by channel
	Messages                                  []body         // of a batch
}

// payload returns the data of an envelope, as text or as bytes.
func (b *body) payload() string {
	if b.Data64 != nil {
		return string(b.Data64)
	}
	return b.Data
}

// stream is one connection of a client.
type stream interface {
	// next returns what the node says next, or why there is no more.
	next() (event, error)
	close()
}
