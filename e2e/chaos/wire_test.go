//go:build chaos

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is one of toxiproxy's, between two parts.
type wire struct {
	name  string
	proxy *toxiproxy.Proxy
	mu    sync.Mutex
	cut   bool
}

var proxies = sync.OnceValue(func() *toxiproxy.ApiServer {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log past their server's logger
	return toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
})

func newWire(t *testing.T, name, to string) *wire {
	t.Helper()
	w := &wire{name: name, proxy: toxiproxy.NewProxy(proxies(), name, "127.0.0.1:0", to)}
	if err := w.proxy.Start(); err != nil {
		t.Fatalf("starting the wire %s: %v", name, err)
	}
	t.Cleanup(w.proxy.Stop)
	return w
}

func (w *wire) address() string { return w.proxy.Listen }

// sever ends all connections; with stay no new one comes about until mend.
func (w *wire) sever(stay bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil
	}
	w.proxy.Stop()
	if w.cut = stay; stay {
		return nil
	}
	return w.proxy.Start()
}

func (w *wire) mend() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut {
		return nil
	}
	w.cut = false
	return w.proxy.Start()
}

// toxic is a kind of trouble on a wire, by toxiproxy's names.
type toxic struct {
	kind       string
	upstream   bool
	attributes map[string]int
	toxicity   float64
}

// trouble lays a toxic on the wire for a while. It works on connections there are and on new ones.
func (w *wire) trouble(ctx context.Context, x toxic, lasts time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock() // a wire that is being severed must not change its toxics at the same time
	if w.cut {
		return nil
	}
	stream := "downstream"
	if x.upstream {
		stream = "upstream"
	}
	text, err := json.Marshal(map[string]any{"name": "trouble", "type": x.kind, "stream": stream, "toxicity": x.toxicity, "attributes": x.attributes})
	if err != nil {
		return err
	}
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		return fmt.Errorf("%s: laying %s on it: %w", w.name, x.kind, err)
	}
	select {
	case <-time.After(lasts):
	case <-ctx.Done():
	}
	return w.proxy.Toxics.RemoveToxic(context.WithoutCancel(ctx), "trouble")
}

// weather makes trouble on one wire until ctx ends: of every kind, and on those to PostgreSQL none that is merely slow.
func weather(ctx context.Context, w *wire, random *rand.Rand, count func(kind string)) error {
	between := func(least, most int) int { return least + random.IntN(most-least+1) }
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(between(1500, 6000)) * time.Millisecond):
		}
		x := toxic{upstream: random.IntN(2) == 0, toxicity: 0.5}
		lasts := time.Duration(between(200, 1500)) * time.Millisecond
		kinds := []string{"reset_peer", "limit_data", "slicer", "latency", "severed"}
		if !strings.HasPrefix(w.name, "postgres") {
			kinds = append(kinds, "late", "bandwidth")
		}
		kind := kinds[random.IntN(len(kinds))]
		count(kind)
		switch x.kind = kind; kind {
		case "reset_peer":
			x.attributes = map[string]int{"timeout": between(0, 50)}
		case "limit_data": // ends in the middle of a message
			x.attributes = map[string]int{"bytes": between(0, 4000)}
		case "slicer":
			x.attributes = map[string]int{"average_size": 40, "size_variation": 20, "delay": 200}
		case "latency":
			x.attributes = map[string]int{"latency": between(20, 200), "jitter": 20}
		case "late": // what was sent arrives when its sender has given up
			x.kind, x.upstream, x.attributes = "latency", true, map[string]int{"latency": int(callTimeout.Milliseconds()) + 500}
			lasts = callTimeout + time.Second
		case "bandwidth":
			x.attributes = map[string]int{"rate": between(2, 20)}
		case "severed":
			if err := w.sever(false); err != nil {
				return fmt.Errorf("%s: severing it: %w", w.name, err)
			}
			continue
		}
		if err := w.trouble(ctx, x, lasts); err != nil {
			return err
		}
	}
}
