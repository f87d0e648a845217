package servicenow_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/conformance"
	"liaison/connectors/servicenow/servicenowtest"
)

// broken is a connector with one mistake. Each is one that would cost somebody a ticket, a message or a secret.
type broken struct {
	connectors.Connector
	connectors.HookReader

	create  func(ctx context.Context, d connectors.Draft) (connectors.Ticket, error)
	find    func(ctx context.Context, id string) ([]connectors.Ticket, error)
	read    func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error)
	say     func(ctx context.Context, id connectors.ExternalID, m connectors.Message, mark connectors.Mark) (connectors.JournalEntry, error)
	journal func(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error)
	changes func(ctx context.Context, after connectors.Cursor) (connectors.Page, error)
	update  func(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error)
}

func (b *broken) Create(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
	return b.create(ctx, d)
}

func (b *broken) FindByCorrelation(ctx context.Context, id string) ([]connectors.Ticket, error) {
	return b.find(ctx, id)
}

func (b *broken) Read(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
	return b.read(ctx, id, fields)
}

func (b *broken) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	return b.update(ctx, id, f)
}

func (b *broken) Say(ctx context.Context, id connectors.ExternalID, m connectors.Message, mark connectors.Mark) (connectors.JournalEntry, error) {
	return b.say(ctx, id, m, mark)
}

func (b *broken) Journal(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
	return b.journal(ctx, id, after)
}

func (b *broken) Changes(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
	return b.changes(ctx, after)
}

// as returns err with its kind changed.
func as(err error, from, to connectors.Kind) error {
	e, ok := errors.AsType[*connectors.Error](err)
	if !ok || e.Kind != from {
		return err
	}
	changed := *e
	changed.Kind = to
	return &changed
}

// The suite is worth what it catches: it must fail each of these connectors in the cases named.
func TestSuiteCatches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		caught []string
		breaks func(b *broken, whole connectors.Connector)
	}{
		"creates again after a lost answer": {[]string{"CreateLostAnswer", "ServerErrorOnWrite"}, func(b *broken, whole connectors.Connector) {
			b.create = func(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
				ticket, err := whole.Create(ctx, d)
				if connectors.KindOf(err) == connectors.Unknown && err != nil {
					return whole.Create(ctx, d)
				}
				return ticket, err
			}
		}},
		"calls a lost create transient": {[]string{"CreateLostAnswer", "ServerErrorOnWrite", "CancelledWrite", "HTMLInsteadOfJSON", "TruncatedJSON"}, func(b *broken, whole connectors.Connector) {
			b.create = func(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
				ticket, err := whole.Create(ctx, d)
				return ticket, as(err, connectors.Unknown, connectors.Transient)
			}
		}},
		"calls a lost update transient": {[]string{"UpdateLostAnswer"}, func(b *broken, whole connectors.Connector) {
			b.update = func(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
				ticket, err := whole.Update(ctx, id, f)
				return ticket, as(err, connectors.Unknown, connectors.Transient)
			}
		}},
		"returns what was sent": {[]string{"UpdateReturnsWhatIsStored", "UpdateNoOp"}, func(b *broken, whole connectors.Connector) {
			b.update = func(ctx context.Context, id connectors.ExternalID, _ connectors.Fields) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, nil) // never writes
				return ticket, err
			}
		}},
		"says again after a lost answer": {[]string{"SayLostAnswer"}, func(b *broken, whole connectors.Connector) {
			b.say = func(ctx context.Context, id connectors.ExternalID, m connectors.Message, mark connectors.Mark) (connectors.JournalEntry, error) {
				e, err := whole.Say(ctx, id, m, mark)
				if err != nil {
					_, _ = whole.Say(ctx, id, m, mark)
				}
				return e, err
			}
		}},
		"says work notes aloud": {[]string{"SayVisibility"}, func(b *broken, whole connectors.Connector) {
			b.say = func(ctx context.Context, id connectors.ExternalID, m connectors.Message, mark connectors.Mark) (connectors.JournalEntry, error) {
				m.Visibility = connectors.Public
				return whole.Say(ctx, id, m, mark)
			}
		}},
		"takes the same words for the same message": {[]string{"SayEqualComments"}, func(b *broken, whole connectors.Connector) {
			b.say = func(ctx context.Context, id connectors.ExternalID, m connectors.Message, mark connectors.Mark) (connectors.JournalEntry, error) {
				all, _, err := whole.Journal(ctx, id, "")
				for _, e := range all {
					if e.Body == m.Body {
						return e, err
					}
				}
				return whole.Say(ctx, id, m, mark)
			}
		}},
		"knows no message as its own": {[]string{"JournalOwn", "SayLostAnswer"}, func(b *broken, whole connectors.Connector) {
			b.journal = func(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
				all, m, err := whole.Journal(ctx, id, after)
				for i := range all {
					all[i].Own = false
				}
				return all, m, err
			}
		}},
		"shows internal messages as public": {[]string{"SayVisibility", "JournalBeyondMark"}, func(b *broken, whole connectors.Connector) {
			b.journal = func(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
				all, m, err := whole.Journal(ctx, id, after)
				for i := range all {
					all[i].Visibility = connectors.Public
				}
				return all, m, err
			}
		}},
		"finds tickets of others": {[]string{"FindNothing", "CreateReadFind"}, func(b *broken, whole connectors.Connector) {
			b.find = func(ctx context.Context, id string) ([]connectors.Ticket, error) {
				found, err := whole.FindByCorrelation(ctx, id)
				return append(found, connectors.Ticket{ID: "46e18c0fa9fe19810066a0083f76bd56", CorrelationID: id}), err
			}
		}},
		"reads a missing ticket as empty": {[]string{"UnknownTicket"}, func(b *broken, whole connectors.Connector) {
			b.read = func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, fields)
				if connectors.KindOf(err) == connectors.NotFound {
					return ticket, nil
				}
				return ticket, err
			}
		}},
		"waits no time": {[]string{"RateLimitedSeconds", "RateLimitedDate"}, func(b *broken, whole connectors.Connector) {
			b.read = func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, fields)
				if e, ok := errors.AsType[*connectors.Error](err); ok {
					e.RetryAfter = 0
				}
				return ticket, err
			}
		}},
		"shows its password": {[]string{"NoSecretInErrors"}, func(b *broken, whole connectors.Connector) {
			b.read = func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, fields)
				if e, ok := errors.AsType[*connectors.Error](err); ok {
					e.Vendor += " " + password
				}
				return ticket, err
			}
		}},
		"makes errors of its own": {[]string{"UnknownTicket", "Unauthorised", "ServerErrorOnRead"}, func(b *broken, whole connectors.Connector) {
			b.read = func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, fields)
				if err != nil {
					err = errors.New("it did not work")
				}
				return ticket, err
			}
		}},
		"takes a broken answer for an empty one": {[]string{"HTMLInsteadOfJSON", "TruncatedJSON"}, func(b *broken, whole connectors.Connector) {
			b.read = func(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
				ticket, err := whole.Read(ctx, id, fields)
				if connectors.KindOf(err) == connectors.Transient {
					return ticket, nil
				}
				return ticket, err
			}
		}},
		"skips the last row of a page": {[]string{"ChangesPageBoundary"}, func(b *broken, whole connectors.Connector) {
			b.changes = func(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
				p, err := whole.Changes(ctx, after)
				if p.More && len(p.Refs) > 0 {
					p.Refs = p.Refs[:len(p.Refs)-1]
				}
				return p, err
			}
		}},
		"shows a ticket once only": {[]string{"ChangesSameTicketTwice", "ChangesPageBoundary"}, func(b *broken, whole connectors.Connector) {
			known := map[connectors.ExternalID]bool{}
			b.changes = func(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
				p, err := whole.Changes(ctx, after)
				var fresh []connectors.Ref
				for _, r := range p.Refs {
					if !known[r.ID] {
						known[r.ID] = true
						fresh = append(fresh, r)
					}
				}
				p.Refs = fresh
				return p, err
			}
		}},
		"never comes to an end": {[]string{"ChangesPageBoundary", "ChangesWhilePaging"}, func(b *broken, whole connectors.Connector) {
			b.changes = func(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
				p, err := whole.Changes(ctx, after)
				p.More = true
				return p, err
			}
		}},
		"begins with the past": {[]string{"ChangesFromNowOn"}, func(b *broken, whole connectors.Connector) {
			b.changes = func(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
				if after == "" {
					after = `{"since":"1970-01-01 00:00:00"}`
				}
				return whole.Changes(ctx, after)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waived := map[string]string{}
			for _, caught := range c.caught {
				waived[caught] = "broken on purpose"
			}
			// A waived case must fail: the waiver of one that passes is stale.
			conformance.Run(t, conformance.Spec{Only: c.caught, Waived: waived, Patience: time.Second, New: func(t testing.TB) conformance.Harness {
				h := harness(simulator(t, servicenowtest.Config{}), func(string) connectors.Credentials { return basic() })
				connect := h.Connect
				h.Connect = func(t testing.TB, o conformance.Options) connectors.Connector {
					whole := connect(t, o)
					b := &broken{
						Connector: whole, HookReader: whole.(connectors.HookReader), create: whole.Create, find: whole.FindByCorrelation, read: whole.Read,
						update: whole.Update, say: whole.Say, journal: whole.Journal, changes: whole.Changes,
					}
					c.breaks(b, whole)
					return b
				}
				return h
			}})
		})
	}
}
