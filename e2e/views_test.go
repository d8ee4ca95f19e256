package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// panel is one panel of the dashboard, with what it asks Prometheus for.
type panel struct {
	Type, Title string
	Targets     []struct{ Expr string }
}

// panels reads those of deploy/grafana that ask for something.
func panels(t *testing.T) (all []panel) {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/dashboards/sluice.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	// As Grafana replaces them, for a short test and all nodes.
	variables := strings.NewReplacer("$__rate_interval", "3s", "$__range", "1m", "$instance", ".*")
	for _, p := range dashboard.Panels {
		for i, q := range p.Targets {
			p.Targets[i].Expr = variables.Replace(q.Expr)
		}
		if len(p.Targets) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// quiet are metrics that stay at zero here.
var quiet = []string{
	"sluice_clock_clamped_total",  // there is one clock
	"sluice_clock_offset_seconds", // the same
	"sluice_lag_messages",         // everyone reads at once
	"sluice_lag_seconds",
	"sluice_sessions_owing",
	"sluice_repairs_total",       // Redis loses nothing within a connection
	"sluice_trace_refused_total", // there is room
}

// TestDashboardShowsData: when everything happens that the dashboard is about, there is no panel that shows nothing. Alerts
// can be evaluated, and one that should fire does.
func TestDashboardShowsData(t *testing.T) {
	t.Parallel()
	rules := map[string]rule{
		"orders": {wish: wish{rate: "10/s", conflate: "key"}},
		"news":   {wish: wish{filter: `event != "noise"`}},
	}
	env := []string{"OTEL_TRACES_EXPORTER=console", "OTEL_BSP_SCHEDULE_DELAY=50"}
	s := newSettings(t, rules)
	r := newRigIn(t, env, []string{"appendonly", "yes"}, 2, "--config", s.path, "--metrics", "127.0.0.1:0", "--history-messages", "60",
		"--ring-messages", "32", "--publish-wait", "1s", "--max-message", "64KiB")
	r.write = quotes(r.rng, 0, true)
	p := startPrometheus(t, r.nodes...)
	r.listenEverywhere(viaSSE, viaSSEJSON, viaWS, viaWSPlain)
	r.connect()
	r.publish(2 * pace)
	if err := errors.Join(r.comeAndGo("away"), r.overdo("orders")); err != nil {
		t.Fatal(err)
	}
	r.loseRedis()
	r.published(100)
	p.shows(panels(t), 20*time.Second)
	p.alerted()
	until(t, 10*time.Second, "a point of the latency panels knows its trace, by the label that deploy/grafana names", func() bool {
		return slices.ContainsFunc(p.examples("sluice_publish_to_write_seconds_bucket"), func(labels map[string]string) bool {
			return len(labels["trace_id"]) == 32
		})
	})
}

// shows fails the test if a panel has nothing to show within d.
func (p *prometheus) shows(panels []panel, d time.Duration) {
	p.t.Helper()
	deadline := time.Now().Add(d)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for _, view := range panels {
		for _, q := range view.Targets {
			mayBeZero := slices.ContainsFunc(quiet, func(metric string) bool { return strings.Contains(q.Expr, metric) })
			for {
				all := p.values(q.Expr)
				if everNotZero(all) || mayBeZero && len(all) > 0 {
					break
				}
				if time.Now().After(deadline) {
					p.t.Errorf("the panel %q shows nothing: %s\n%v", view.Title, q.Expr, all)
					break
				}
				<-again.C
			}
		}
	}
}

// alerted fails the test if an alert can't be evaluated, and if others fire than those about gaps.
func (p *prometheus) alerted() {
	p.t.Helper()
	until(p.t, 20*time.Second, "all alerts have been evaluated, and the one about gaps fires", func() bool {
		gaps := false
		for _, rule := range p.rules() {
			if rule.LastEvaluation.IsZero() {
				return false
			}
			gaps = gaps || rule.Name == "SluiceGaps" && rule.State == "firing"
		}
		return gaps
	})
	for _, rule := range p.rules() {
		if rule.Health != "ok" || rule.LastError != "" {
			p.t.Errorf("the alert %s is %s: %s", rule.Name, rule.Health, rule.LastError)
		}
		if rule.State == "firing" && rule.Name != "SluiceGaps" && rule.Name != "SluiceRedisFlapping" {
			p.t.Errorf("the alert %s fires", rule.Name)
		}
	}
}

// comeAndGo has a client come back to each transport at once, after more messages than are in memory, and after more than are kept.
func (r *rig) comeAndGo(channel string) error {
	for _, k := range []kind{viaSSE, viaWS} {
		c := newClient(r.T, channel, k, []string{channel}, r.at(0))
		for _, more := range []int{1, 0, 40, 80} {
			first := fmt.Sprint(channel, k, more)
			for i := range more {
				if _, err := publish(r.ctx, r.http, r.nodes[0].url(), channel, "", fmt.Sprint(first, i)); err != nil {
					return err
				}
			}
			v, err := r.visit(c, k, 0)
			if err != nil {
				return err
			}
			last := outgoing{channel: channel, data: first + " last"}
			if _, err = r.viaHTTP(r.nodes[0])(r.ctx, last); err == nil {
				err = v.message(last.data)
			}
			v.end()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// overdo does what nodes refuse: too much, too often, and what makes no sense.
func (r *rig) overdo(channel string) error {
	base, large := r.nodes[0].url(), strings.Repeat("x", 70<<10)
	if _, err := publish(r.ctx, r.http, base, channel, "", large); err == nil {
		return errors.New("a payload that is too large was published")
	}
	if _, err := openSSE(r.ctx, r.http, base+"/sse?channel=%20", "", false); err == nil {
		return errors.New("there is a channel without a name")
	}
	r.redis.do("PUBLISH", channel, "plain")
	r.redis.do("PUBLISH", channel, large)
	ctx, cancel := context.WithTimeout(r.ctx, visitTime)
	defer cancel()
	st, err := openWS(ctx, strings.Replace(base, "http", "ws", 1)+"/ws", true)
	if err != nil {
		return err
	}
	defer st.close()
	stop := context.AfterFunc(ctx, st.close)
	defer stop()
	for i := range 150 {
		if err := st.send(map[string]any{"type": "publish", "ref": i, "channel": channel, "data": "often", "live": true}); err != nil {
			return err
		}
	}
	for {
		e, err := st.next()
		if err != nil {
			return err
		}
		if e.kind == "error" && e.body.Code == "rate_limited" {
			return nil
		}
	}
}

// loseRedis takes the functions from Redis until they have been loaded again, and then Redis itself until publishers have been told so.
func (r *rig) loseRedis() {
	r.Helper()
	r.redis.do("FUNCTION", "FLUSH")
	r.published(20)
	r.redis.Kill()
	until(r.T, 20*time.Second, "a publisher is told that Redis is away", func() bool {
		_, err := publish(r.ctx, r.http, r.nodes[0].url(), "orders", "", "in vain")
		return err != nil && strings.Contains(err.Error(), "unavailable")
	})
	r.redis.Restart()
	// The client that the test itself publishes with has a goroutine that asks once a second, until then.
	until(r.T, 20*time.Second, "the test's own client is connected again", func() bool { return r.redis.Client().Ping(r.ctx).Err() == nil })
}
