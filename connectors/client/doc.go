// Package client is the one HTTP client that every connector calls its vendor through.
//
// A Client calls one vendor as one account, whose limits it shares with the other systems of that account (package
// account). Its layers, outermost first:
//
//	trace        one span for each exchange, W3C trace headers to the vendor
//	redaction    no secret, no address with a query, no control character in any error
//	retry        go-retryablehttp, only what is safe to repeat: reads, and writes that provably never left
//	gate         what the account allows: concurrency, rate, the pause that the vendor asked for, circuit breaker
//	time-out     for each attempt, the body's arrival included
//	body limit   10 MiB after decompression; a longer or cut answer is no answer
//	auth         Basic, a token header, or OAuth 2 with one refresh for all callers and one retry after a 401
//	egress       redirects are never followed, loopback and link-local addresses are refused when dialled
//
// Every failure is a *connectors.Error. Its kind tells the truth about a write: the moment from which a write
// may have been sent is when the attempt was given a connection; a failure before that is Transient (or Auth, when
// a person must act first), one after it is Unknown unless the vendor's whole answer says that nothing was done.
//
// Clients are safe for concurrent use. They hold only what may be lost in a crash: connections and an access token.
package client
