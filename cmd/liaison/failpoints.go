//go:build failpoints

package main

import (
	"net/http"
	"strings"

	"liaison/cmd/liaison/hub"
	"liaison/internal/failpoint"
)

// watch puts a fail point before and after every statement, call and answer when FAILPOINTS names a folder with the
// orders: see package failpoint. Only a program built with the tag failpoints can do this.
func watch(environ []string) (hub.Watch, error) {
	for _, v := range environ {
		dir, ok := strings.CutPrefix(v, "FAILPOINTS=")
		if !ok || dir == "" {
			continue
		}
		points, err := failpoint.Open(dir)
		if err != nil {
			return hub.Watch{}, err
		}
		return hub.Watch{Statements: points.Tracer(), Vendors: points.Transport(http.DefaultTransport), Door: points.Door}, nil
	}
	return hub.Watch{}, nil
}
