package outbound

import (
	"sync/atomic"
	"time"
)

// most bounds how many lanes a worker has under way.
const most = 256

// enough is for how long a worker claims lanes ahead: long enough that a fast vendor's are claimed many at a time,
// short enough that a claimed lane is sent before anybody misses it.
const enough = 250 * time.Millisecond

// pace remembers how long exchanges take.
type pace struct{ nanos atomic.Int64 }

func (p *pace) note(took time.Duration) {
	was := p.nanos.Load()
	if was == 0 {
		was = int64(enough)
	}
	p.nanos.Store(was + (int64(took)-was)/16) // of two notes at once one may be lost, which does no harm
}

// ahead is how many lanes to have under way when so many calls are made at a time.
func (p *pace) ahead(calls int) int {
	took := max(time.Duration(p.nanos.Load()), 50*time.Microsecond)
	if p.nanos.Load() == 0 {
		took = enough
	}
	return max(calls, min(calls*int(max(enough/took, 1)), most))
}
