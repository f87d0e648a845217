package servicenow

import (
	"context"
	"strings"
	"time"

	"liaison/connectors"
)

// askLoginAgain is the pause before a vendor that kept the account's login to itself is asked again.
const askLoginAgain = 10 * time.Minute

// ownLogin returns the account's login name: the configured one, else the one that the vendor tells. It is empty when
// the vendor does not let the account see its own row; then no message counts as own.
func (c *Connector) ownLogin(ctx context.Context, op string) (string, error) {
	c.mu.Lock()
	login, wait := c.login, c.now().Before(c.askAgain)
	c.mu.Unlock()
	if login != "" || wait {
		return login, nil
	}
	// The script is our own and runs as the account: the one value that may begin with javascript:.
	q := query{"sys_id=javascript:gs.getUserID()"}
	me, err := c.list(ctx, op, listing{table: "sys_user", query: q, fields: []string{"sys_id", "user_name"}, limit: 2})
	if k := connectors.KindOf(err); err != nil && (k == connectors.Transient || k == connectors.RateLimited) {
		return "", err
	}
	// Two rows mean that the condition was dropped.
	if err == nil && len(me.records) == 1 && me.records[0].get("user_name") != "" {
		return c.learnLogin(me.records[0].get("user_name")), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.askAgain = c.now().Add(askLoginAgain)
	return c.login, nil
}

// learnLogin keeps the account's login unless it is known already, and returns the one that is known.
func (c *Connector) learnLogin(login string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.login == "" {
		c.login = login
	}
	return c.login
}

func isLogin(login, author string) bool { return login != "" && strings.EqualFold(login, author) }
