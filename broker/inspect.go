package broker

// What operators are told of logs and cursors. Nothing here is on the way of a message.

// LogState is a log at one moment.
type LogState struct {
	State    string // joining, live or repairing
	Messages int    // that the ring holds, gaps too
	Bytes    int    // what they count against Options.RingBytes
	Received uint64 // that came since this node listens, gaps and what was read again too
	Last     Position
}

var stateNames = [...]string{joining: "joining", live: "live", repairing: "repairing"}

// Inspect returns the state of l.
func (l *Log) Inspect() LogState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LogState{
		State:    stateNames[l.state],
		Messages: l.ring.len(),
		Bytes:    l.ring.bytes,
		Received: l.ring.next - ringStart,
		Last:     l.last,
	}
}

// Span returns the indices of the oldest message that the ring holds and of the one that comes next.
func (l *Log) Span() (first, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ring.first, l.ring.next
}

// Logs returns the logs that there are, in no order.
func (b *Broker) Logs() []*Log {
	b.mu.RLock()
	defer b.mu.RUnlock()
	logs := make([]*Log, 0, len(b.logs))
	for _, l := range b.logs {
		logs = append(logs, l)
	}
	return logs
}

// Behind returns how many messages s has not been given of those before index end: Span's next, or its lane's Newest, so that
// what a policy holds back is not among them. If history is true it reads the history, where nobody counts; then it
// is 0. It takes no lock, so it is cheap, and for the owner of s.
func (s *Subscription) Behind(end uint64) (messages uint64, history bool) {
	switch {
	case s.phase == fetching:
		return 0, true
	case s.phase != flowing || s.next >= end:
		return 0, false
	}
	return end - s.next, false
}
