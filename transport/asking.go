package transport

import (
	"context"
	"errors"
	"slices"

	"sluice/middleware/auth"
)

// asking is how a grant is asked about a list of subscriptions: about all at once, and where that is refused about those that are left. Only
// where it does not say which are at fault it is asked about one by one.
type asking struct {
	grant   Grant
	tokens  []string // for single subscriptions, whichever
	checked bool     // whether each of those holds, and those of the list
	bad     *Problem // of the first that does not
	shown   bool     // the client has shown something that it could be let in by
	singly  bool     // it was asked one by one
}

func newAsking(g Grant, list []candidate, tokens []string) *asking {
	own := slices.ContainsFunc(list, func(e candidate) bool { return e.Signed != "" })
	return &asking{grant: g, tokens: tokens, shown: !g.Who().Anonymous || len(tokens) > 0 || own, checked: len(tokens) == 0 && !own}
}

// ask returns those of list that are allowed. Who has shown nothing, and gets nothing because of that, is refused as a whole.
func (c *choice) ask(ctx context.Context, s *Server, a *asking, list []candidate) ([]candidate, error) {
	for len(list) > 0 && !a.singly {
		err := a.together(ctx, list)
		if err == nil {
			return list, nil
		}
		if p := denied(err); p.Code == Unavailable || len(a.tokens) > auth.MaxSigned {
			return nil, p
		}
		problems := a.blame(ctx, s, list, err)
		kept := list[:0]
		for i, p := range problems {
			switch {
			case p == nil:
				kept = append(kept, list[i])
				continue
			case p.Code == Unavailable:
				return nil, p
			case p.Code != Unauthorized:
				a.shown = true
			}
			c.refuse(list[i].Channel, p)
		}
		if len(kept) == 0 && !a.shown {
			return nil, problems[0].of("") // it is about who asks
		}
		list = kept
	}
	return list, nil
}

// together asks about all of list.
func (a *asking) together(ctx context.Context, list []candidate) error {
	names, tokens := make([]string, len(list)), a.tokens[:len(a.tokens):len(a.tokens)]
	for i := range list {
		names[i] = list[i].Channel
		if list[i].Signed != "" {
			tokens = append(tokens, list[i].Signed)
		}
	}
	admitted, err := a.grant.Subscribe(ctx, names, tokens)
	for i := range admitted {
		list[i].admitted = admitted[i]
	}
	return err
}

// blame finds out what err, that together has returned, is about: nil for those of list that it may not be about.
func (a *asking) blame(ctx context.Context, s *Server, list []candidate, err error) []*Problem {
	problems := make([]*Problem, len(list))
	var named *auth.Error
	if errors.As(err, &named) {
		found := false
		for i := range list {
			if slices.Contains(named.Channels, list[i].Channel) {
				found, problems[i] = true, a.of(&list[i], err)
			}
		}
		if found {
			return problems
		}
	}
	switch {
	case !a.checked:
		a.check(ctx, list, problems)
	case len(list) == 1:
		problems[0] = a.of(&list[0], err)
	default:
		a.singly = true
		s.side(len(list), func(i int) {
			if err := a.together(ctx, list[i:i+1]); err != nil {
				problems[i] = a.of(&list[i], err)
			}
		})
	}
	return problems
}

// check asks which tokens hold. Those that do not, and are nobody's in particular, are left out from then on.
func (a *asking) check(ctx context.Context, list []candidate, problems []*Problem) {
	a.checked = true
	var good []string
	for _, t := range a.tokens {
		if _, err := a.grant.Subscribe(ctx, nil, []string{t}); err == nil {
			good = append(good, t)
		} else if a.bad == nil {
			a.bad = denied(err)
		}
	}
	a.tokens = good
	for i := range list {
		if t := list[i].Signed; t != "" {
			if _, err := a.grant.Subscribe(ctx, nil, []string{t}); err != nil {
				problems[i] = denied(err)
			}
		}
	}
}

// of is why e is refused. A token that does not hold may have been for it.
func (a *asking) of(e *candidate, err error) *Problem {
	p := denied(err)
	if a.bad != nil && e.Signed == "" && p.Code != Unavailable {
		return a.bad
	}
	return p
}
