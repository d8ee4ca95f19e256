package otel

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// signal is one of the two things that are exported.
type signal struct {
	name     string // for people
	variable string // in the names of variables
}

var (
	traceSignal  = signal{"traces", "TRACES"}
	metricSignal = signal{"metrics", "METRICS"}
)

// Exporters and protocols, as the environment names them.
const (
	noExporter      = ""
	otlpExporter    = "otlp"
	consoleExporter = "console"

	overGRPC     = "grpc"
	overProtobuf = "http/protobuf"
	overJSON     = "http/json"
)

// variable returns the value of an environment variable; empty ones count as not set.
func variable(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// disabled reports whether all is off, whatever else is set. The Go SDK does not read this one.
func disabled() bool { return strings.EqualFold(variable("OTEL_SDK_DISABLED"), "true") }

// exporter returns the exporter that the environment wants. Unless it is named, an endpoint is what turns a signal on: without one
// every node would knock at a port where nobody is.
func (s signal) exporter() (string, error) {
	name := "OTEL_" + s.variable + "_EXPORTER"
	switch e := strings.ToLower(variable(name)); e {
	case otlpExporter, consoleExporter:
		return e, nil
	case "none":
		return noExporter, nil
	case "":
		if _, endpoint := s.otlp("ENDPOINT"); endpoint != "" {
			return otlpExporter, nil
		}
		return noExporter, nil
	case "prometheus":
		return "", fmt.Errorf("%s: for Prometheus set SLUICE_METRICS; write otlp, console or none", name)
	default:
		return "", fmt.Errorf("%s is %q; write otlp, console or none", name, e)
	}
}

// otlp returns the variable of the exporter for this signal that is in force, and its value.
func (s signal) otlp(what string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_" + s.variable + "_" + what
	if value = variable(name); value == "" {
		name = "OTEL_EXPORTER_OTLP_" + what
		value = variable(name)
	}
	return name, value
}

// protocol returns the protocol of the OTLP exporter. Its endpoint makes sense for it then.
func (s signal) protocol() (string, error) {
	name, p := s.otlp("PROTOCOL")
	switch p {
	case overGRPC, overProtobuf:
	case "":
		p = overProtobuf
	case overJSON:
		if s == metricSignal {
			return "", fmt.Errorf("%s: metrics can't be exported over http/json; set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL to http/protobuf or grpc", name)
		}
	default:
		return "", fmt.Errorf("%s is %q; write grpc, http/protobuf or http/json", name, p)
	}
	name, endpoint := s.otlp("ENDPOINT")
	u, err := url.Parse(endpoint)
	if http := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""; endpoint == "" || http || p == overGRPC && err == nil {
		return p, nil
	}
	return "", fmt.Errorf("%s is no URL of a collector; write http://HOST:PORT or https://HOST:PORT", name) // the value may have a password in it
}
