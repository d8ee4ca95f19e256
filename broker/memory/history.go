package memory

import (
	"sort"

	"sluice/broker"
)

// history is a channel's durable messages, oldest first, in a ring that grows as needed: the i-th is
// in slot (first+i) mod len(slots), which is a power of two.
type history struct {
	slots []*broker.Message
	first int
	n     int
}

func (h *history) at(i int) *broker.Message { return h.slots[(h.first+i)&(len(h.slots)-1)] }

func (h *history) push(m *broker.Message) {
	if h.n == len(h.slots) {
		slots := make([]*broker.Message, max(4, 2*h.n))
		for i := range h.n {
			slots[i] = h.at(i)
		}
		h.slots, h.first = slots, 0
	}
	h.slots[(h.first+h.n)&(len(h.slots)-1)] = m
	h.n++
}

// drop removes the oldest n.
func (h *history) drop(n int) {
	if n >= h.n {
		*h = history{} // gives the slots back, too
		return
	}
	for range n {
		h.slots[h.first] = nil
		h.first = (h.first + 1) & (len(h.slots) - 1)
	}
	h.n -= n
}

// size is what the oldest n cost.
func (h *history) size(n int) (size int64) {
	for i := range min(n, h.n) {
		size += cost(h.at(i))
	}
	return size
}

// find returns the index of the first message whose stream ID is not before p's.
func (h *history) find(p broker.Position) int {
	return sort.Search(h.n, func(i int) bool { return !h.at(i).Position.Before(p) })
}

// slice returns the messages from ≤ i < to.
func (h *history) slice(from, to int) []*broker.Message {
	if from >= to {
		return nil
	}
	ms := make([]*broker.Message, to-from)
	for i := range ms {
		ms[i] = h.at(from + i)
	}
	return ms
}

// cost is what m takes of Config.MaxBytes: its payload and fields, and a flat rate for the rest.
func cost(m *broker.Message) int64 {
	return int64(len(m.Data)+len(m.Event)+len(m.Key)+len(m.Trace)) + 256
}
