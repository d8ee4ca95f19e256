package transport

import (
	"time"

	"sluice/broker"
	"sluice/middleware"
)

// group is those feeds of a fan that are under one policy.
type group struct {
	fan   *fan
	feeds []*feed
	pace  *pace // nil: everything as it comes
}

// pace is what a group has whose policy does not let everything out as it comes. It is there as long as
// the group has feeds.
type pace struct {
	lane    *broker.Lane
	deliver string    // what is in force, as clients are told: a JSON object
	newest  uint64    // the lane's run that the feeds were last woken for
	due     time.Time // when the lane is to be asked again; zero: when the channel changes
	index   int       // in the writer's heap of those that are due; -1: not there
	place   int       // in paced.groups
}

// paced is what a fan has that is not for everyone as it comes.
type paced struct {
	groups []*group
	by     map[string]*group // by the policy's ID
	loose  []*feed           // to be asked whenever the channel changes, whatever their lane says
}

// groupOf returns the fan's group for what is in force, and makes it if it has none.
func (fan *fan) groupOf(e *middleware.Effective) *group {
	if e.IsZero() {
		return &fan.plain
	}
	if fan.paced == nil {
		fan.paced = &paced{by: map[string]*group{}}
	}
	g := fan.paced.by[e.Policy.ID]
	if g == nil {
		g = &group{fan: fan, pace: &pace{lane: fan.log.Lane(e.Policy), deliver: string(e.AppendJSON(nil)), index: -1, place: len(fan.paced.groups)}}
		g.pace.newest = g.pace.lane.Newest()
		fan.paced.groups = append(fan.paced.groups, g)
		fan.paced.by[e.Policy.ID] = g
	}
	return g
}

// add puts f under the group's policy. What the one before held back is its to take.
func (g *group) add(f *feed) {
	if len(g.feeds) > 0 && f.wish != nil {
		if w := g.feeds[0].wish; w != nil && *w == *f.wish {
			f.wish = w // thousands wish the same, and filters are long
		}
	}
	f.group, f.slot = g, int32(len(g.feeds))
	g.feeds = append(g.feeds, f)
	if g.pace == nil {
		return
	}
	f.Follow(g.pace.lane)
	f.session.paced = true
	f.loosen()
	g.fan.writer.remind(g, time.Now()) // the lane may hold something since before this writer had followers of it
}

// remove takes f out, and gives up what the group had with the last one.
func (g *group) remove(f *feed) {
	last := len(g.feeds) - 1
	g.feeds[f.slot] = g.feeds[last]
	g.feeds[f.slot].slot = f.slot
	g.feeds[last] = nil
	g.feeds = g.feeds[:last]
	if g.pace == nil {
		return
	}
	f.Follow(nil)
	f.fasten()
	if last > 0 {
		return
	}
	p, fan := g.pace, g.fan
	fan.writer.remind(g, time.Time{})
	end := len(fan.paced.groups) - 1
	fan.paced.groups[p.place] = fan.paced.groups[end]
	fan.paced.groups[p.place].pace.place = p.place
	fan.paced.groups[end] = nil
	fan.paced.groups = fan.paced.groups[:end]
	delete(fan.paced.by, p.lane.Policy().ID)
	if end == 0 {
		fan.paced = nil
	}
	p.lane.Release()
}

// loosen has f asked whenever its channel changes, if it waits for something else than its lane.
func (f *feed) loosen() {
	if f.loose == 0 && f.Unsettled() {
		list := &f.group.fan.paced.loose
		*list = append(*list, f)
		f.loose = int32(len(*list))
	}
}

// fasten leaves f to its lane again.
func (f *feed) fasten() {
	if f.loose == 0 {
		return
	}
	list := &f.group.fan.paced.loose
	last := (*list)[len(*list)-1]
	(*list)[f.loose-1] = last
	last.loose = f.loose
	(*list)[len(*list)-1] = nil
	*list = (*list)[:len(*list)-1]
	f.loose = 0
}

// move puts f under what is in force for it now. Nothing is lost or repeated by it.
func (f *feed) move(e *middleware.Effective) {
	to := f.group.fan.groupOf(e)
	if to == f.group {
		return
	}
	f.group.remove(f)
	to.add(f)
	f.session.mark(f)
	to.fan.writer.schedule(f.session)
}

// deliver is what is in force for f as a JSON object; "" if everything is delivered as it comes.
func (f *feed) deliver() string {
	if f.group.pace == nil {
		return ""
	}
	return f.group.pace.deliver
}
