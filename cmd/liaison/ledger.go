package main

import (
	"errors"
	"fmt"

	"liaison/sync/ledger"
)

type ledgerCmd struct {
	Verify ledgerVerifyCmd `cmd:"" help:"Build every incident's state anew from its history and compare it with what is stored."`
}

type ledgerVerifyCmd struct {
	Incident string `arg:"" optional:"" help:"Only the incident with this number." placeholder:"NUMBER"`
	JSON     bool   `name:"json" help:"Write JSON."`
}

func (c ledgerVerifyCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		found, err := ledger.Verify(e.ctx, o.db, c.Incident)
		if errors.Is(err, ledger.ErrNotFound) {
			return fmt.Errorf("no incident has the number %q", c.Incident)
		} else if err != nil {
			return err
		}
		err = o.print(c.JSON, found, func() {
			for _, f := range found.Faults {
				at := ""
				if f.Version > 0 {
					at = fmt.Sprintf(", version %d", f.Version)
				}
				o.say("%s%s: %s", f.Number, at, f.Problem)
			}
			verdict := "All of them agree with what is stored."
			if n := len(found.Faults); n > 0 {
				verdict = fmt.Sprintf("%d %s found.", n, plural(n, "fault", "faults"))
			}
			o.say("%d %s built anew from %d %s, %d %s among them. %s", found.Incidents, plural(found.Incidents, "incident", "incidents"), found.Entries, plural(found.Entries, "entry", "entries"),
				found.Checkpoints, plural(found.Checkpoints, "checkpoint", "checkpoints"), verdict)
		})
		if err == nil && len(found.Faults) > 0 {
			return exit(1)
		}
		return err
	})
}
