package transport

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"sluice/broker"
	"sluice/middleware"
	"sluice/static"
)

// Admin returns the admin API and its page (docs/operating.md): what operators ask a node. It does not ask who they are, so it is for
// an address that nobody else reaches; Serve does not mount it. It may be served while Serve runs and when it has ended. Without
// Config.Admin sessions have no ledgers, and less is told of them.
func (s *Server) Admin() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.handleError
	e.Use(middleware.RequestIDs())
	if s.config.AccessLog {
		e.Use(middleware.AccessLog{Log: s.log, Clients: s.limits.clients}.Middleware())
	}
	e.Use(middleware.Recover{Log: s.log, Answer: func(echo.Context) error { return problem(Internal, "") }}.Middleware())
	e.Use(ownHost)
	e.GET("/admin/policy", s.adminPolicy)
	e.GET("/admin/drops", s.adminDrops)
	e.GET("/admin/stats", s.adminStats)
	e.GET("/admin/channels", s.adminChannels)
	e.GET("/admin/sessions", s.adminSessions)
	e.GET("/admin/sessions/:id", s.adminSession)
	e.DELETE("/admin/sessions/:id", s.adminDisconnect) // pages of others can't: a browser asks first (CORS), and is not answered
	e.GET("/admin/revocations", s.adminRevocations)
	e.POST("/admin/revocations", s.adminRevoke)
	page := echo.WrapHandler(static.Admin())
	for _, path := range static.AdminPaths() {
		e.Match([]string{http.MethodGet, http.MethodHead}, path, page)
	}
	return e
}

// ownHost refuses what reaches a loopback address under a name that is not this machine's. Anyone's page may have its own name
// point to 127.0.0.1 and then read, in an operator's browser, what is served there (DNS rebinding).
func ownHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		host := (&url.URL{Host: r.Host}).Hostname()
		if _, err := netip.ParseAddr(host); local != nil && local.IP.IsLoopback() && err != nil && host != "localhost" {
			return problem(Forbidden, "use the address, or localhost")
		}
		return next(c)
	}
}

// adminQuery reads a query that may have these parameters, each once.
func adminQuery(c echo.Context, params ...string) (url.Values, error) {
	q, err := url.ParseQuery(c.Request().URL.RawQuery)
	if err != nil {
		return nil, problem(BadRequest, "the query string is not URL-encoded")
	}
	for name, values := range q {
		switch {
		case len(params) == 0:
			return nil, problem(BadRequest, fmt.Sprintf("unknown parameter %s; there are none here", quoted(name)))
		case !allowed(name, params):
			return nil, problem(BadRequest, fmt.Sprintf("unknown parameter %s; there are %s", quoted(name), strings.Join(params, ", ")))
		case len(values) > 1:
			return nil, problem(BadRequest, name+" is there twice; give it once")
		}
	}
	return q, nil
}

// listing is which part of a long list is wanted.
type listing struct {
	sort  string
	limit int
}

// maxListed bounds an answer of the admin API, and what a writer puts together for one.
const maxListed = 1000

// adminListing reads sort, which is one of the given keys and by default the first, and limit.
func adminListing(q url.Values, keys ...string) (l listing, err error) {
	l = listing{sort: cmp.Or(q.Get("sort"), keys[0]), limit: 100}
	if !allowed(l.sort, keys) {
		return l, problem(BadRequest, fmt.Sprintf("can't sort by %s; there are %s", quoted(l.sort), strings.Join(keys, ", ")))
	}
	if n := q.Get("limit"); n != "" {
		l.limit, err = strconv.Atoi(n)
		if err != nil || l.limit < 1 || l.limit > maxListed {
			return l, problem(BadRequest, "limit is a number from 1 to "+strconv.Itoa(maxListed))
		}
	}
	return l, nil
}

// adminPolicy answers GET /admin/policy: what is in force for a subscriber of a channel, with a wish or without.
func (s *Server) adminPolicy(c echo.Context) error {
	q, err := adminQuery(c, append([]string{"channel"}, middleware.WishParams...)...)
	if err != nil {
		return err
	}
	channel := q.Get("channel")
	if err := broker.CheckChannel(channel); err != nil {
		return err
	}
	wish, err := middleware.ParseWish(q.Get("rate"), q.Get("batch"), q.Get("conflate"), q.Get("filter"))
	if err != nil {
		return problem(BadDelivery, err.Error())
	}
	e, err := s.policies.For(channel, wish)
	if err != nil {
		return problem(BadDelivery, err.Error())
	}
	return adminAnswer(c, struct {
		Channel string          `json:"channel"`
		Pattern string          `json:"pattern"` // of the rule that matches; "": none does
		Deliver json.RawMessage `json:"deliver"`
	}{channel, e.Pattern, e.AppendJSON(nil)})
}

// droppedCount is one counter of GET /admin/drops.
type droppedCount struct {
	Pattern string `json:"pattern"` // of the rule; "": channels without one
	Reason  string `json:"reason"`
	Dropped int64  `json:"dropped"`
}

// adminDrops answers GET /admin/drops: what was dropped on purpose since the start.
func (s *Server) adminDrops(c echo.Context) error {
	if _, err := adminQuery(c); err != nil {
		return err
	}
	list := []droppedCount{}
	s.policies.Drops(func(pattern, reason string, n int64) bool {
		list = append(list, droppedCount{pattern, reason, n})
		return true
	})
	slices.SortFunc(list, func(a, b droppedCount) int {
		return cmp.Or(cmp.Compare(a.Pattern, b.Pattern), cmp.Compare(a.Reason, b.Reason))
	})
	return adminAnswer(c, list)
}

func adminAnswer(c echo.Context, v any) error {
	h := c.Response().Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return c.JSON(http.StatusOK, v)
}
