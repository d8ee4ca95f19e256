package transport

import (
	"container/heap"
	"time"
)

// dueGroups are the groups of a writer whose lanes are to be asked at a time: a heap, the first one first. It is
// for container/heap.
type dueGroups []*group

func (d dueGroups) Len() int           { return len(d) }
func (d dueGroups) Less(i, j int) bool { return d[i].pace.due.Before(d[j].pace.due) }
func (d dueGroups) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].pace.index, d[j].pace.index = i, j
}

func (d *dueGroups) Push(x any) {
	g := x.(*group)
	g.pace.index = len(*d)
	*d = append(*d, g)
}

func (d *dueGroups) Pop() any {
	old := *d
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	g.pace.index = -1
	return g
}

// remind has the lane of g asked at the given time; zero is not before its channel changes.
func (w *writer) remind(g *group, at time.Time) {
	p := g.pace
	switch {
	case at.IsZero():
		p.due = at
		if p.index >= 0 {
			heap.Remove(&w.due, p.index)
		}
	case p.index < 0:
		p.due = at
		heap.Push(&w.due, g)
	case !p.due.Equal(at):
		p.due = at
		heap.Fix(&w.due, p.index)
	}
}

// ask asks the lane of g and has the feeds served if it lets something out. Other writers ask the same lane:
// what counts is whether there was a run that these feeds have not been woken for.
func (w *writer) ask(g *group, now time.Time) {
	_, again := g.pace.lane.Poll(now)
	w.remind(g, again)
	newest := g.pace.lane.Newest()
	if newest == g.pace.newest {
		w.held = true
		return
	}
	g.pace.newest = newest
	for _, f := range g.feeds {
		f.session.mark(f)
		w.schedule(f.session)
	}
}

// askAll is for a channel that has changed.
func (w *writer) askAll(p *paced) {
	for i := len(p.loose) - 1; i >= 0; i-- {
		f := p.loose[i]
		f.session.mark(f)
		w.schedule(f.session)
		if !f.Unsettled() {
			f.fasten()
		}
	}
	now := time.Now()
	for _, g := range p.groups {
		w.ask(g, now)
	}
}

// askDue asks the lanes whose time has come.
func (w *writer) askDue() {
	now := time.Now()
	for len(w.due) > 0 && !w.due[0].pace.due.After(now) {
		g := w.due[0]
		w.ask(g, now)
		if g.pace.index >= 0 && !g.pace.due.After(now) { // it must not be asked for ever
			w.remind(g, now.Add(time.Millisecond))
		}
	}
}

// setAlarm has the writer woken when the first group is due; while there is none, there is no timer. After
// a pass it rests for as long as messages may wait to share a write, so that many lanes at different times
// cost no more passes than messages do.
func (w *writer) setAlarm() {
	switch {
	case len(w.due) == 0:
		if !w.alarmAt.IsZero() {
			w.alarm.Stop()
			w.alarmAt = time.Time{}
		}
	case !w.alarmAt.Equal(w.due[0].pace.due):
		w.alarmAt = w.due[0].pace.due
		w.alarm.Reset(max(time.Until(w.alarmAt), w.server.config.Coalesce))
	}
}
