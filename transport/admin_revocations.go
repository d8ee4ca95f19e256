package transport

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"sluice/broker"
)

// revocation is one as operators write and read it: one of token (a jti), subject and session.
type revocation struct {
	Token   string    `json:"token,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Session string    `json:"session,omitempty"`
	For     string    `json:"for,omitempty"` // a duration; only read
	At      time.Time `json:"at,omitzero"`
	Until   time.Time `json:"until,omitzero"`
}

// maxRevoke bounds the body of POST /admin/revocations.
const maxRevoke = 4 << 10

// adminRevoke answers POST /admin/revocations: it takes back a token, all tokens of a subject that were issued until now, or a session.
func (s *Server) adminRevoke(c echo.Context) error {
	if _, err := adminQuery(c); err != nil {
		return err
	}
	if t, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type")); err != nil || t != "application/json" {
		return problem(UnsupportedMedia, "Content-Type must be application/json") // so that no page's form can send it
	}
	in, err := readRevocation(c)
	if err != nil {
		return err
	}
	r, err := in.parse(time.Now(), s.config.RevokeFor)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.config.PublishWait)
	defer cancel()
	if err := s.broker.Revoke(ctx, r); err != nil {
		if errors.Is(err, broker.ErrUnavailable) {
			s.log.WarnContext(ctx, "revocation failed", "err", err)
			return problem(Unavailable, "the backend did not take it in time: it is in force on this node, and on others as soon as the backend is back; it is safe to revoke again")
		}
		return problem(BadRequest, err.Error())
	}
	s.log.InfoContext(ctx, "revoked", "kind", r.Kind.String(), "until", r.Until)
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusCreated, rowOf(r))
}

func readRevocation(c echo.Context) (in revocation, err error) {
	r := c.Request()
	d := json.NewDecoder(http.MaxBytesReader(c.Response(), r.Body, maxRevoke))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return in, problem(BadRequest, "not a revocation: "+plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return in, problem(BadRequest, "something follows the revocation")
	}
	return in, nil
}

// parse returns what is to be stored, now; for otherwise where it does not say how long.
func (in *revocation) parse(now time.Time, otherwise time.Duration) (r broker.Revocation, err error) {
	r = broker.Revocation{At: now, Until: now.Add(otherwise)}
	given := 0
	for _, x := range []struct {
		kind  broker.RevocationKind
		value string
	}{{broker.ByToken, in.Token}, {broker.BySubject, in.Subject}, {broker.BySession, in.Session}} {
		if x.value != "" {
			r.Kind, r.Value = x.kind, x.value
			given++
		}
	}
	if given != 1 {
		return r, problem(BadRequest, "name one of token (its jti), subject and session")
	}
	if in.For != "" {
		d, err := time.ParseDuration(in.For)
		if err != nil || d <= 0 {
			return r, problem(BadRequest, `for is a duration such as "24h"`)
		}
		r.Until = now.Add(d)
	}
	if err := r.Check(); err != nil {
		return r, problem(BadRequest, err.Error())
	}
	return r, nil
}

// rowOf returns r as operators read it.
func rowOf(r broker.Revocation) revocation {
	row := revocation{At: r.At.UTC(), Until: r.Until.UTC()}
	switch r.Kind {
	case broker.ByToken:
		row.Token = r.Value
	case broker.BySubject:
		row.Subject = r.Value
	case broker.BySession:
		row.Session = r.Value
	}
	return row
}

// adminRevocations answers GET /admin/revocations: what is in force, the newest first.
func (s *Server) adminRevocations(c echo.Context) error {
	q, err := adminQuery(c, "limit")
	if err != nil {
		return err
	}
	l, err := adminListing(q, "at")
	if err != nil {
		return err
	}
	all := s.broker.Revocations()
	slices.SortStableFunc(all, func(a, b broker.Revocation) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Value, b.Value)) })
	answer := struct {
		Revocations []revocation `json:"revocations"`
		Total       int          `json:"total"`
		Truncated   bool         `json:"truncated"`
	}{[]revocation{}, len(all), len(all) > l.limit}
	for _, r := range all[:min(len(all), l.limit)] {
		answer.Revocations = append(answer.Revocations, rowOf(r))
	}
	return adminAnswer(c, answer)
}
