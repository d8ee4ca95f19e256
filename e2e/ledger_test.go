package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// place is a position that can be compared. The order is that of the first two numbers.
type place struct{ ms, seq uint64 }

func parsePlace(position string) (place, error) {
	part := strings.Split(position, "-")
	if len(part) != 3 || len(part[2]) != 4 {
		return place{}, fmt.Errorf("position %q is not MS-SEQ-TAG", position)
	}
	ms, err1 := strconv.ParseUint(part[0], 10, 64)
	seq, err2 := strconv.ParseUint(part[1], 10, 64)
	if err1 != nil || err2 != nil {
		return place{}, fmt.Errorf("position %q is not MS-SEQ-TAG", position)
	}
	return place{ms, seq}, nil
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.ms, q.ms), cmp.Compare(p.seq, q.seq))
}

// entry is one acknowledged message.
type entry struct {
	data  string
	at    place
	quote quote // what policies judge by; empty if data is something else
}

// ledger is the list of what was acknowledged, against which clients are held.
type ledger struct {
	mu       sync.Mutex
	channels map[string][]entry
	repeated int // acknowledged as a duplicate: the first answer had been lost
	retries  int
	faults   []string
}

func newLedger() *ledger { return &ledger{channels: map[string][]entry{}} }

// ack books an acknowledged message. Each payload is unique.
func (l *ledger) ack(channel, data, position string, duplicate bool) {
	at, err := parsePlace(position)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.faults = append(l.faults, err.Error())
	}
	if duplicate {
		l.repeated++
	}
	l.channels[channel] = append(l.channels[channel], entry{data, at, readQuote(data)})
}

func (l *ledger) retried() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retries++
}

func (l *ledger) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, es := range l.channels {
		n += len(es)
	}
	return n
}

// latest returns the data at the last place of each channel that has any.
func (l *ledger) latest() (data []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, es := range l.channels {
		data = append(data, slices.MaxFunc(es, func(a, b entry) int { return a.at.compare(b.at) }).data)
	}
	return data
}

// check returns what is wrong with the acknowledgements themselves: a position given twice, or a
// publisher's messages that are stored in another order than it sent them.
func (l *ledger) check() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	faults := slices.Clone(l.faults)
	for ch, es := range l.channels {
		newest := map[string]place{}
		at := map[place]string{}
		for _, e := range es { // one publisher's are in the order in which they were acknowledged
			who := e.data[:max(0, strings.LastIndexByte(e.data, '|'))]
			if e.at.compare(newest[who]) <= 0 {
				faults = append(faults, fmt.Sprintf("%s: %q at %v, and an earlier one of this publisher at %v", ch, e.data, e.at, newest[who]))
			}
			newest[who] = e.at
			if other, ok := at[e.at]; ok {
				faults = append(faults, fmt.Sprintf("%s: %q and %q are both at %v", ch, e.data, other, e.at))
			}
			at[e.at] = e.data
		}
	}
	return faults
}

// verdict is how a client's list compares with the ledger.
type verdict struct {
	got        int
	lost       int // acknowledged, never came, whether a gap says so or not
	silent     int // of these, without a gap in the place where they are missing
	duplicated int
	misordered int
	foreign    int            // nobody has published it
	unwanted   int            // it came though the filter does not let it through
	superseded int            // never came, which is right: a newer one of its key did
	gaps       map[string]int // by reason
	first      string         // the first thing that is wrong, to begin with
}

func (v *verdict) note(format string, args ...any) {
	if v.first == "" {
		v.first = fmt.Sprintf(format, args...)
	}
}

// judge compares what a client got of the given channels, under the given terms, with the ledger. The
// client must have listened since before the first publish.
func (l *ledger) judge(got []received, channels []string, under map[string]terms) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{gaps: map[string]int{}}
	for _, r := range got {
		if r.gap != nil {
			v.gaps[r.gap.Reason]++
		} else {
			v.got++
		}
	}
	of := map[string]string{}
	for _, ch := range channels {
		for _, e := range l.channels[ch] {
			of[e.data] = ch
		}
	}
	for _, r := range got {
		if r.gap == nil && of[r.data] == "" {
			v.foreign++
			v.note("%.60q was never acknowledged", r.data)
		}
	}
	for _, ch := range channels {
		es := slices.Clone(l.channels[ch])
		slices.SortFunc(es, func(a, b entry) int { return a.at.compare(b.at) })
		v.judge(ch, es, under[ch], slices.DeleteFunc(slices.Clone(got), func(r received) bool {
			return r.gap == nil && of[r.data] != ch || r.gap != nil && r.gap.Channel != ch
		}))
	}
	return v
}

// judge holds one channel's deliveries against its messages in the order of their positions.
func (v *verdict) judge(channel string, es []entry, under terms, got []received) {
	index := make(map[string]int, len(es))
	for i, e := range es {
		index[e.data] = i
	}
	owed := under.owed(es, index, got)
	seen := make([]bool, len(es))
	next, gap := 0, false // the entry that must come now; a gap was told since the last message
	miss := func(to int) {
		for ; next < to; next++ {
			switch {
			case seen[next]:
				continue
			case !owed[next]:
				if under.wants(&es[next].quote) {
					v.superseded++
				}
				continue
			}
			v.lost++
			if !gap {
				v.silent++
				v.note("%s: %q at %v is missing and no gap says so", channel, es[next].data, es[next].at)
			}
		}
	}
	for _, r := range got {
		if r.gap != nil {
			gap = gap || r.gap.Reason != "interrupted" // that one promises that durable messages are whole
			continue
		}
		i := index[r.data]
		switch {
		case seen[i]:
			v.duplicated++
			v.note("%s: %q came twice, now by %s", channel, r.data, r.via)
			continue
		case i < next:
			v.misordered++
			v.note("%s: %q came by %s after %q", channel, r.data, r.via, es[next-1].data)
		}
		if !under.lenient && !under.wants(&es[i].quote) {
			v.unwanted++
			v.note("%s: %q came though it is to be filtered out", channel, r.data)
		}
		seen[i] = true
		miss(i)
		next, gap = max(next, i+1), false
	}
	miss(len(es))
}
