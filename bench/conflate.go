package main

// What scenarios with keys, and those with slow readers, measure besides.

// slow returns the connections that stall or crawl in their stage.
func (r *runner) slow() []*conn { return r.loop.conns[:r.scenario.Stalled+r.scenario.Crawling] }

// crawl reads 256 bytes four times a second from those that crawl.
func (r *runner) crawl() {
	for _, c := range r.loop.conns[r.scenario.Stalled:][:r.scenario.Crawling] {
		if t := now(); c.fd >= 0 && t-c.lastSip > 250e6 {
			c.lastSip = t
			r.loop.readSome(c, 256)
		}
	}
}

// judge computes what only stages with keys have, and checks that every client ended with the newest
// message of each key.
func (r *runner) judge(st Stage, out *StageResult, after, before snapshot) {
	if r.scenario.Keys == 0 {
		return
	}
	cpu := after.server.cpu - before.server.cpu
	if st.Kind == unheard {
		r.silent = cpu / float64(max(out.Published, 1))
		out.SilentUs, out.Lost = round(r.silent*1e6, 2), 0
		return
	}
	newest := make([]uint32, r.scenario.Keys)
	for seq := r.pub.seq[0]; seq > 0 && r.pub.seq[0]-seq < uint32(len(newest)); seq-- {
		newest[seq%uint32(len(newest))] = seq
	}
	for i, c := range r.loop.conns {
		for k, seq := range newest {
			switch {
			case c.newest[k] == seq:
			case i < len(r.slow()):
				out.StaleSlow++
			default:
				out.StaleKeys++
			}
		}
	}
	if st.Kind != conflated {
		return
	}
	out.Expected, out.Lost = out.Received, out.StaleKeys
	reads, most := int64(0), 0.0
	for _, c := range r.loop.conns {
		reads += c.reads
		if c.reads > 1 {
			most = max(most, float64(c.reads-1)*1e9/float64(c.lastRead-c.firstRead))
		}
	}
	out.Most = round(most, 3)
	out.MostAtOnce = round(float64(out.Received)/float64(max(reads, 1)), 1)
	if writes := after.server.writes - before.server.writes; writes > 0 {
		// The answers to publishers are writes, too.
		out.WriteUs = round((cpu-r.silent*float64(out.Published))*1e6/float64(max(writes-out.Published, 1)), 2)
	}
}

func mean(v []int64) float64 {
	var sum int64
	for _, x := range v {
		sum += x
	}
	return float64(sum) / float64(max(len(v), 1))
}
