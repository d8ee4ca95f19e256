package otel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/sdk/resource"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// serviceName is the service.name of nodes that are not given another.
const serviceName = "sluice"

// newResource returns what spans and metrics say of their origin. The order is the order of precedence, and the environment comes
// last: what it says wins. host.id and host.name are there because Jaeger tells by them whether two nodes share a clock.
func newResource(ctx context.Context, o Options) (*resource.Resource, error) {
	if _, err := resource.New(ctx, resource.WithFromEnv()); err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES has a part without a value; write key=value, separated by commas")
	}
	r, err := resource.New(ctx,
		resource.WithAttributes(
			semconv.ServiceName(serviceName),
			semconv.ServiceVersion(o.Version),
			semconv.ServiceInstanceID(o.Node),
		),
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithHostID(),
		resource.WithFromEnv(),
	)
	if err != nil && r == nil { // a part of it is enough: containers often have no host.id
		return nil, fmt.Errorf("describe this node: %w", err)
	}
	return r, nil
}
