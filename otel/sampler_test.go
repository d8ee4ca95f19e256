package otel

import (
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestHeadSampler(t *testing.T) {
	for _, tt := range []struct {
		sampler, arg string
		want, err    string // description; contained in the error
	}{
		{"", "", "ParentBased{root:AlwaysOnSampler,", ""},
		{"", "0.5", "ParentBased{root:AlwaysOnSampler,", ""},
		{"always_on", "", "AlwaysOnSampler", ""},
		{" Always_On ", "nonsense", "AlwaysOnSampler", ""},
		{"always_off", "", "AlwaysOffSampler", ""},
		{"traceidratio", "0.25", "TraceIDRatioBased{0.25}", ""},
		{"traceidratio", "0", "TraceIDRatioBased{0}", ""},
		{"traceidratio", "", "TraceIDRatioBased{1}", ""},
		{"parentbased_always_on", "", "ParentBased{root:AlwaysOnSampler,", ""},
		{"parentbased_always_off", "", "ParentBased{root:AlwaysOffSampler,", ""},
		{"parentbased_traceidratio", "0.001", "ParentBased{root:TraceIDRatioBased{0.001},", ""},
		{"parentbased_traceidratio", "1%", "", `OTEL_TRACES_SAMPLER_ARG is "1%"; write the share`},
		{"traceidratio", "1.5", "", "from 0 to 1"},
		{"traceidratio", "-1", "", "from 0 to 1"},
		{"traceidratio", "NaN", "", "from 0 to 1"},
		{"jaeger_remote", "", "", `OTEL_TRACES_SAMPLER is "jaeger_remote"; write one of always_on, `},
	} {
		setenv(t, "OTEL_TRACES_SAMPLER="+tt.sampler, "OTEL_TRACES_SAMPLER_ARG="+tt.arg)
		s, err := headSampler()
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s %s: got %v, want an error with %q", tt.sampler, tt.arg, err, tt.err)
			}
		} else if err != nil || !strings.HasPrefix(s.Description(), tt.want) {
			t.Errorf("%s %s: got %v, %v, want %s", tt.sampler, tt.arg, s, err, tt.want)
		}
	}
}

// The head sampler is not the provider's: what is started is recorded.
func TestProviderRecordsAll(t *testing.T) {
	tel := start(t, nil, "OTEL_TRACES_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=always_off", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1")
	_, s := tel.tracerProvider().Tracer("test").Start(t.Context(), "x")
	if !s.IsRecording() || tel.headSampler().ShouldSample(sdktrace.SamplingParameters{}).Decision != sdktrace.Drop {
		t.Errorf("recording %v; head sampler %v", s.IsRecording(), tel.headSampler())
	}
}
