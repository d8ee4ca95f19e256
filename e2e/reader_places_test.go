package e2e

import "testing"

// testEarlierPlace: while messages come, others want the same channels over the same connection from an earlier place, as tabs do that come back late.
// They get all that is behind it, once and in order, and who was there gets nothing twice.
func testEarlierPlace(t *testing.T, f *fleet) {
	r := newRig(t, nil, 1)
	pages := r.eachTransport(f, r.nodes[0].url(), "")
	r.publish(pagePace / 4)
	for range 5 {
		r.published(40)
		r.catchUp(pages...)
		for _, p := range pages {
			p.run(`(channels) => {
				seen.late ??= [];
				for (const channel of channels) {
					const before = seen.got.filter((m) => m.channel === channel);
					if (!before.length) continue; // nothing was published on it yet, by chance
					const from = Math.max(1, before.length - 10); // ten messages ago
					const late = { channel, from, got: [] };
					seen.late.push(late);
					edge.subscribe(channel, { since: seen.places[channel][from - 1] }, (m) => late.got.push(m.data));
				}
			}`, r.channels, nil)
		}
	}
	r.published(40)
	r.finishPages(200, pages...)
	for _, p := range pages {
		var wrong []string
		p.run(`() => seen.late.flatMap((late) => {
			const want = seen.got.filter((m) => m.channel === late.channel && m.data).map((m) => m.data).slice(late.from);
			const got = JSON.stringify(late.got);
			return got === JSON.stringify(want) ? [] : [late.channel + ": got " + late.got.length + " from " + late.got[0] + ", want " + want.length + " from " + want[0] +
				", the first that is missing is " + want.find((m) => !late.got.includes(m))];
		})`, nil, &wrong)
		for _, w := range wrong {
			t.Errorf("%s: %s", p.page, w)
		}
	}
}
