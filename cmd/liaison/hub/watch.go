package hub

import (
	"net/http"

	"github.com/jackc/pgx/v5"
)

// Watch is who looks on while a hub works. The zero Watch is nobody, and what every released program uses.
type Watch struct {
	// Statements sees every statement of both pools.
	Statements pgx.QueryTracer
	// Vendors carries the calls to vendors in place of the client's own guarded transport.
	Vendors http.RoundTripper
	// Door goes round everything that the hub answers.
	Door func(http.Handler) http.Handler
}

func (w Watch) door(h http.Handler) http.Handler {
	if w.Door == nil {
		return h
	}
	return w.Door(h)
}
