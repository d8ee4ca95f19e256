package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestJaegerTrust: what a caller's traceparent decides, and what a publish is to the deliveries of other nodes, by the node's settings.
func TestJaegerTrust(t *testing.T) {
	t.Parallel()
	j := startJaeger(t, 0)
	r := newTraced(t, j, 1, map[string]rule{"orders.*": {}}, nil)
	r.add("trusting", "--trace-trust", "parent")
	r.add("apart", "--trace-nodes", "link")
	r.strangers(0)
	r.trusted(1)
	r.apart(0, 2)
}

// caller returns the n-th caller's traceparent, and its parts.
func caller(n int, flags string) (traceparent, traceID, spanID string) {
	traceID, spanID = fmt.Sprintf("ca11%028x", n+1), fmt.Sprintf("ca11%012x", n+1)
	return "00-" + traceID + "-" + spanID + "-" + flags, traceID, spanID
}

const published200 = `
	POST /publish/{channel} [server]%s
		publish orders.* [producer]`

// strangers: node i begins traces of its own, whatever callers want, and links them to theirs.
func (r *traced) strangers(i int) {
	r.Helper()
	for n, flags := range []string{"00", "01"} {
		tp, traceID, spanID := caller(n, flags)
		tr := r.traceOf(r.put(i, "orders.eu", "", "stranger", "Traceparent", tp), 2)
		tr.wantsShape(fmt.Sprintf(published200, " →1"))
		tr.wantsNoWarnings()
		post := tr.only("POST /publish/{channel}")
		if post.parentID() != "" || !slices.Equal(post.links(), []reference{{followsFrom, traceID, spanID}}) || tr.ID == traceID {
			r.Errorf("the caller is %s:\n%v", tp, tr)
		}
		if tr := r.jaeger.trace(traceID); tr != nil {
			r.Errorf("there is something in the caller's trace:\n%v", tr)
		}
	}
}

// trusted: node i goes on in the caller's trace, and samples nothing that the caller did not.
func (r *traced) trusted(i int) {
	r.Helper()
	tp, unsampled, _ := caller(2, "00")
	r.put(i, "orders.eu", "", "not sampled", "Traceparent", tp)
	tp, traceID, spanID := caller(3, "01")
	position := r.put(i, "orders.eu", "", "sampled", "Traceparent", tp)
	tr := r.traceOf(position, 2)
	tr.wantsShape(fmt.Sprintf(published200, ""))
	if post := tr.only("POST /publish/{channel}"); tr.ID != traceID || post.parentID() != spanID {
		r.Errorf("the caller is %s:\n%v", tp, tr)
	}
	if tr := r.jaeger.trace(unsampled); tr != nil {
		r.Errorf("it was not to be sampled:\n%v", tr)
	}
	// The messages of a request can have traceparents of their own.
	tp, traceID, spanID = caller(4, "01")
	status, answer := r.request(i, "/publish", fmt.Sprintf(`{"channel":"orders.eu","data":"own","traceparent":%q}`, tp), "Content-Type", "application/json")
	var p published
	if err := json.Unmarshal(answer, &p); err != nil || status != http.StatusOK {
		r.Fatalf("%d %s (%v)", status, answer, err)
	}
	tr = r.traceOf(p.Position, 1)
	tr.wantsShape("publish orders.* [producer] →1")
	publish := tr.only("publish orders.*")
	if tr.ID != traceID || publish.parentID() != spanID {
		r.Errorf("the publisher is %s:\n%v", tp, tr)
	}
	request := publish.links()[0]
	of := r.jaeger.await(request.TraceID, hasSpans(1))
	of.wantsShape("POST /publish [server]")
	if of.Spans[0].ID != request.SpanID {
		r.Errorf("it was published in %s:\n%v", request.SpanID, of)
	}
}

// apart: the delivery of node far is in a trace of its own, with a link to the publish at node near, whose delivery is a child of that.
func (r *traced) apart(near, far int) {
	r.Helper()
	here, there := r.hear("ws", near, "orders.apart", ""), r.hear("ws", far, "orders.apart", "")
	r.put(near, "orders.apart", "", "both")
	const one = `
			deliver orders.* [consumer]%s
				fan-out
				push ws
					queue
					write
				transit`
	traceID, _ := contextOf(r.T, here.want("both").body.Traceparent)
	tr := r.jaeger.await(traceID, hasSpans(8))
	tr.wantsShape(fmt.Sprintf(published200, "") + fmt.Sprintf(one, ""))
	publish := tr.only("publish orders.*")

	ownID, spanID := contextOf(r.T, there.want("both").body.Traceparent)
	own := r.jaeger.await(ownID, hasSpans(6))
	own.wantsShape(outdent(fmt.Sprintf(one, " →1"), 2))
	deliver := own.only("deliver orders.*")
	if ownID == traceID || deliver.ID != spanID || deliver.parentID() != "" ||
		!slices.Equal(deliver.links(), []reference{{followsFrom, tr.ID, publish.ID}}) || deliver.Start != publish.Start {
		r.Errorf("the publish is %s of %s, and the delivery\n%v", publish.ID, tr.ID, own)
	}
	for _, tr := range []*trace{tr, own} {
		tr.wantsNoWarnings()
	}
	if strings.Count(tr.shape(), "deliver") != 1 {
		r.Errorf("both deliveries are in one trace:\n%v", tr)
	}
}
