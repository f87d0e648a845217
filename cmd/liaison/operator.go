package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"liaison/connectors/registry"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
	"liaison/sync/ledger"
)

// operator works on the database of hubs that run or not, as who sits at the command line.
type operator struct {
	env    *env
	config *config.Config
	db     *postgres.DB
	bell   *postgres.Bell
	ledger *ledger.Ledger
	reader *ledger.Reader
	desk   *desk.Desk
	viewer auth.Viewer
	now    func() time.Time
}

// operate opens the database that the settings name, or that of the hub which runs on the data folder, and has work done.
// Nothing is started, stopped or migrated.
func (e *env) operate(work func(*operator) error) error {
	c, err := config.Load(config.Options{Path: e.config, Explicit: e.config != "", Environ: e.environ, Connectors: registry.Names(), DeferSecrets: true})
	if err != nil {
		return err
	}
	url, err := c.Database.URL.Value()
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	if url == "" {
		if url, err = embedded.Attach(embedded.Options{Dir: c.DataDir}); err != nil {
			return err
		}
	}
	if err := schemaFits(e.ctx, url); err != nil {
		return err
	}
	db, err := postgres.Open(e.ctx, url, postgres.Options{AppConns: 2, SystemConns: 2, ApplicationName: "liaison sync"})
	if err != nil {
		return err
	}
	defer db.Close()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	o := &operator{env: e, config: c, db: db, bell: postgres.NewBell(db, quiet), now: time.Now, reader: ledger.NewReader(db)}
	o.ledger = ledger.New(db, o.bell, o.now)
	o.desk = desk.New(o.ledger, desk.Limits{TitleChars: c.Limits.TitleChars, DescriptionBytes: c.Limits.DescriptionBytes, CommentBytes: c.Limits.CommentBytes}, o.now)
	if o.viewer, err = directory.Operator(e.ctx, db); err != nil {
		return err
	}
	return work(o)
}

// schemaFits refuses a database whose tables this program does not know.
func schemaFits(ctx context.Context, url string) error {
	all, err := postgres.Status(ctx, url, postgres.Migrations)
	if err != nil {
		return err
	}
	for _, m := range all {
		if !m.Applied {
			return fmt.Errorf("the database's tables are older than this program (%s is missing): run liaison migrate, or use the program that the hub runs", m.Name)
		}
	}
	return nil
}

// read answers questions as the operator.
func (o *operator) read(questions ...ledger.Question) error {
	return o.reader.Read(o.env.ctx, o.viewer, questions...)
}

// named reads an id as people have it: bare, or as GraphQL gives it.
func named(kind nodeid.Kind, text string) (uuid.UUID, error) {
	if id, err := uuid.Parse(text); err == nil {
		return id, nil
	}
	return nodeid.UUID(kind, text)
}
