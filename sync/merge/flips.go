package merge

import "time"

// Flips is how often a field of a link has gone to and fro of late.
type Flips struct {
	At      []time.Time `json:"at,omitempty"`      // when the hub took a value of the vendor's or sent one, by the hub's clock, newest last
	Stopped time.Time   `json:"stopped,omitzero"` // since when the field is left alone on both sides; zero: it is not
}
