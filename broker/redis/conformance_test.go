package redis

import (
	"testing"

	"sluice/broker"
	"sluice/broker/backendtest"
	"sluice/broker/redistest"
)

func TestBackend(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := redistest.Start(t)
			backendtest.Run(t, func(t *testing.T) broker.Backend {
				if err := s.Client().FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				return open(t, s, mode.adjust)
			}, func(t *testing.T) broker.Backend { return open(t, s, mode.adjust) })
		})
	}
}
