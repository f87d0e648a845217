package requesttracker

import (
	"context"
	"regexp"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

// askLoginAgain is the pause before RT is asked again for a login name that it did not tell.
const askLoginAgain = 10 * time.Minute

// authToken is the form of RT's tokens: a version, the user's id, the secret.
var authToken = regexp.MustCompile(`^[0-9]+-([1-9][0-9]*)-[0-9a-f]+$`)

// tokenUser returns the user's id that stands in a token, empty when none does.
func tokenUser(token string) string {
	if m := authToken.FindStringSubmatch(token); m != nil {
		return m[1]
	}
	return ""
}

// ownLogin returns the account's login name: the configured one, else that of the user whom the token names. It is
// empty when RT does not tell; then a message counts as own only by what the hub knows of it.
func (c *Connector) ownLogin(ctx context.Context, op string) (string, error) {
	c.mu.Lock()
	login, wait := c.login, c.now().Before(c.nextLogin)
	c.mu.Unlock()
	if login != "" || wait || c.userID == "" {
		return login, nil
	}
	var user struct {
		Name string `json:"Name"`
	}
	_, err := c.call(ctx, client.Request{Op: op, Path: "/user/" + c.userID}, nil, &user)
	switch k := connectors.KindOf(err); {
	case err == nil && user.Name != "":
		return c.learnLogin(user.Name), nil
	case err != nil && k != connectors.Auth && k != connectors.NotFound && k != connectors.Rejected:
		return "", err // an honest "not known now" is better than taking our own words for another's
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextLogin = c.now().Add(askLoginAgain)
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
