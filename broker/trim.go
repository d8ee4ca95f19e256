package broker

// trimmed is what Trim leaves to each log, in bytes.
const trimmed = 16 << 10

// Trim gives memory back, for a node that runs out of it: of each log that holds more than 16 KiB the older half goes, a single
// message too, and what was kept to be sent again. Who has not read that yet finds it as if the ring were smaller: in the history, or else a gap. It may
// be called at any time, by anyone, and again.
func (b *Broker) Trim() {
	for _, l := range b.Logs() {
		l.trim()
	}
}

func (l *Log) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.memo[:])
	if l.ring.bytes <= trimmed {
		return
	}
	for goal := max(l.ring.bytes/2, trimmed); l.ring.bytes > goal; {
		l.shift()
	}
}
