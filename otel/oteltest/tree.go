package oteltest

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Node is a span as a line of a tree.
type Node struct {
	ID, Parent string
	Text       string
}

// Tree renders nodes below their parents, those of one parent sorted by their text. What has no parent among them is a root.
func Tree(nodes []Node) string {
	kids := map[string][]Node{}
	there := map[string]bool{}
	for _, n := range nodes {
		there[n.ID] = true
	}
	for _, n := range nodes {
		if !there[n.Parent] {
			n.Parent = ""
		}
		kids[n.Parent] = append(kids[n.Parent], n)
	}
	var render func(parent string, depth int) string
	render = func(parent string, depth int) string {
		var all []string
		for _, n := range kids[parent] {
			all = append(all, strings.Repeat("  ", depth)+n.Text+"\n"+render(n.ID, depth+1))
		}
		slices.Sort(all)
		return strings.Join(all, "")
	}
	return render("", 0)
}

// Attribute returns the text of an attribute, "" if it is not there.
func (s Span) Attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return text(a.Value)
		}
	}
	return ""
}

func text(v *common.AnyValue) string {
	switch x := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return x.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(x.IntValue)
	case *common.AnyValue_DoubleValue:
		return fmt.Sprint(x.DoubleValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(x.BoolValue)
	}
	return fmt.Sprint(v)
}

// Traceparent returns what names the span.
func (s Span) Traceparent() string {
	return "00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"
}

// Node renders s as a line: its name, its kind, the attributes that are asked for by the last part of their name, the first attribute of
// each of its links, and whether it is an error.
func (s Span) Node(show ...string) Node {
	line := s.Name
	if s.Kind != traces.Span_SPAN_KIND_INTERNAL {
		line += " [" + strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")) + "]"
	}
	for _, key := range show {
		if v := s.Attribute(key); v != "" {
			line += " " + key[strings.LastIndexByte(key, '.')+1:] + "=" + v
		}
	}
	for _, l := range s.Links {
		line += " →" + text(l.Attributes[0].Value)
	}
	if s.Status.GetCode() == traces.Status_STATUS_CODE_ERROR {
		line += " ERROR"
	}
	return Node{ID: string(s.SpanId), Parent: string(s.ParentSpanId), Text: line}
}
