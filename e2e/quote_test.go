package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"
)

// quote is the payload of tests about delivery policies. What these judge by stands in it, so that the
// ledger knows it too.
type quote struct {
	By     string `json:"by"`               // CHANNEL|PUBLISHER|NUMBER, unique
	Symbol string `json:"symbol,omitempty"` // what is conflated by; the message's key, too
	Side   string `json:"side"`             // buy or sell
	Event  string `json:"event"`            // the message's event, too
	Pad    string `json:"pad,omitempty"`
}

// readQuote returns the quote that data is; an empty one if it is something else.
func readQuote(data string) (q quote) {
	if json.Unmarshal([]byte(data), &q) != nil {
		return quote{}
	}
	return q
}

// numberOf returns what tells a payload from all others: of a quote, its number, else itself.
func numberOf(data string) string {
	if q := readQuote(data); q.By != "" {
		return q.By
	}
	return data
}

// outgoing is the quote as a message of channel.
func (q *quote) outgoing(channel string) outgoing {
	data, err := json.Marshal(q)
	if err != nil {
		panic(err)
	}
	return outgoing{channel: channel, id: q.By, key: q.Symbol, event: q.Event, data: string(data)}
}

// quotes returns a writer of quotes, for several publishers. Most are of a few symbols that supersede each other
// all the time; one in ten is of a symbol of its own and, if there are to be any, one in twenty of none: those must
// come even where the others are conflated. The run's last message passes every filter.
func quotes(rng *rand.Rand, pad int, keyless bool) func(channel, by string) outgoing {
	var mu sync.Mutex
	rng = rand.New(rand.NewPCG(rng.Uint64(), 0))
	return func(channel, by string) outgoing {
		mu.Lock()
		defer mu.Unlock()
		q := quote{By: by, Symbol: string(rune('a' + rng.IntN(6))), Side: "buy", Event: "trade", Pad: strings.Repeat("x", pad)}
		switch n := rng.IntN(20); {
		case strings.HasPrefix(by, endMark):
			q.Symbol, q.Pad = "the end", ""
			return q.outgoing(channel)
		case n < 2:
			q.Symbol = "only " + by
		case n == 2 && keyless:
			q.Symbol = ""
		}
		if rng.IntN(3) == 0 {
			q.Side = "sell"
		}
		if rng.IntN(4) == 0 {
			q.Event = "noise"
		}
		return q.outgoing(channel)
	}
}
