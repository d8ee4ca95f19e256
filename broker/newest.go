package broker

// Newest names the newest run of n: another number than before says that there has been one since. Where
// several poll a lane, each of them learns from it of the runs that the others' calls of Poll made.
func (n *Lane) Newest() uint64 {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.run.to
}
