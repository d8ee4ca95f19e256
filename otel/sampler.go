package otel

import (
	"fmt"
	"strconv"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// samplers are the values of OTEL_TRACES_SAMPLER. Each gets the ratio of OTEL_TRACES_SAMPLER_ARG, whether it has a use for it or not.
var samplers = []struct {
	name   string
	ratio  bool
	sample func(ratio float64) sdktrace.Sampler
}{
	{"always_on", false, func(float64) sdktrace.Sampler { return sdktrace.AlwaysSample() }},
	{"always_off", false, func(float64) sdktrace.Sampler { return sdktrace.NeverSample() }},
	{"traceidratio", true, sdktrace.TraceIDRatioBased},
	{"parentbased_always_on", false, func(float64) sdktrace.Sampler { return sdktrace.ParentBased(sdktrace.AlwaysSample()) }},
	{"parentbased_always_off", false, func(float64) sdktrace.Sampler { return sdktrace.ParentBased(sdktrace.NeverSample()) }},
	{"parentbased_traceidratio", true, func(r float64) sdktrace.Sampler { return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(r)) }},
}

// headSampler returns the sampler that the environment names, by default parentbased_always_on. The SDK reads the same variables,
// but keeps to itself what it has read, and takes a wrong value for 1.
func headSampler() (sdktrace.Sampler, error) {
	name := strings.ToLower(variable("OTEL_TRACES_SAMPLER"))
	if name == "" {
		name = "parentbased_always_on"
	}
	var known []string
	for _, s := range samplers {
		known = append(known, s.name)
		if s.name != name {
			continue
		}
		ratio := 1.0
		if arg := variable("OTEL_TRACES_SAMPLER_ARG"); s.ratio && arg != "" {
			var err error
			if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) { // NaN is neither
				return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q; write the share of traces to record, from 0 to 1, such as 0.01", arg)
			}
		}
		return s.sample(ratio), nil
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER is %q; write one of %s", name, strings.Join(known, ", "))
}
