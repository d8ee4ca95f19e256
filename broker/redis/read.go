package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"sluice/broker"
)

// readChunk is how many ranges one round trip asks for.
const readChunk = 200

// Read implements broker.Backend. Ranges go in pipelines of 200. Asking for the head alone costs
// Redis a GET; the function is called only if that finds nothing, and now and then.
func (b *Backend) Read(ctx context.Context, ranges []broker.Range) ([]broker.Page, error) {
	pages := make([]broker.Page, len(ranges))
	for from := 0; from < len(ranges); from += readChunk {
		to := min(from+readChunk, len(ranges))
		if err := b.readPages(ctx, ranges[from:to], pages[from:to]); err != nil {
			return nil, unavailable(err)
		}
	}
	return pages, nil
}

func (b *Backend) readPages(ctx context.Context, ranges []broker.Range, pages []broker.Page) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.CommandTimeout)
	defer cancel()
	all := make([]int, len(ranges))
	for i := range all {
		all[i] = i
	}
	// At most three times: the head may be missing, and then the function that makes one as well.
	which := all
	var err error
	for try := 0; try < 3 && len(which) > 0; try++ {
		which, err = b.ask(ctx, ranges, pages, which, try == 0)
		if missing(err) {
			if err := b.load(ctx); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	return err
}

// ask fills the pages of the ranges which in one round trip. It returns those that have to be
// asked for again by the function: their functions or their heads were missing.
func (b *Backend) ask(ctx context.Context, ranges []broker.Range, pages []broker.Page, which []int, quick bool) (rest []int, err error) {
	p := b.client.Pipeline()
	cmds := make([]*goredis.Cmd, len(which))
	gets := make([]bool, len(which))
	for i, n := range which {
		r := ranges[n]
		// A node that listens to a quiet channel for days only ever asks for its head, and the
		// position would expire: one in 64 goes to the function, which prolongs it.
		gets[i] = quick && r.Limit <= 0 && rand.IntN(64) > 0
		if gets[i] {
			cmds[i] = p.Do(ctx, "GET", b.keys.meta(r.Channel))
			continue
		}
		cmds[i] = b.callRead(ctx, p, r)
	}
	_, _ = p.Exec(ctx) // every command has its own error
	for i, cmd := range cmds {
		n := which[i]
		switch e := cmd.Err(); {
		case gets[i] && errors.Is(e, goredis.Nil):
			rest = append(rest, n)
		case missing(e):
			rest, err = append(rest, n), e
		case e != nil && !foreign(e):
			return nil, e
		case e != nil:
			pages[n].Err = e
		default:
			if !b.fill(&pages[n], ranges[n], cmd.Val()) {
				pages[n].Err = errReply
			}
		}
	}
	return rest, err
}

func (b *Backend) callRead(ctx context.Context, p goredis.Pipeliner, r broker.Range) *goredis.Cmd {
	mode, id := "after", r.After.StreamID()
	switch {
	case r.Limit <= 0:
		mode = "head"
	case r.Newest && r.Before.IsZero():
		mode, id = "newest", "+"
	case r.Newest:
		mode, id = "newest", before(r.Before).StreamID()
	}
	keys := []string{b.keys.stream(r.Channel), b.keys.meta(r.Channel)}
	return b.call(ctx, p, readFunction, keys, mode, id, r.Limit, b.config.MetaAge.Milliseconds(), b.config.MaxPayload+maxHead)
}

// fill makes a page of a reply: the head, or {head, entries}. Entries that are not Sluice's are left
// out; the broker sees by the predecessors if one was between two of them.
func (b *Backend) fill(page *broker.Page, r broker.Range, reply any) bool {
	head, ok := reply.(string)
	if values, isList := reply.([]any); isList && len(values) == 2 {
		head, ok = values[0].(string)
		entries, _ := values[1].([]any)
		page.Messages = make([]*broker.Message, 0, len(entries))
		for _, entry := range entries {
			m, ok := parseEntry(r.Channel, entry)
			switch {
			case emptied(entry):
				b.stats.DroppedTooLarge.Add(1)
			case !ok:
				b.stats.DroppedMalformed.Add(1)
			case len(m.Data) > b.config.MaxPayload:
				b.stats.DroppedTooLarge.Add(1)
			default:
				page.Messages = append(page.Messages, m)
			}
		}
		if r.Newest {
			slices.Reverse(page.Messages)
		}
	}
	if !ok {
		return false
	}
	var err error
	page.Head, err = broker.ParsePosition(head)
	return err == nil
}
