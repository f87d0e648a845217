// Package auth knows who asks: it turns a bearer token into a Viewer and carries the Viewer through a
// request's context.
//
// Tokens are kept only as SHA-256 digests. The directory of tokens and organisations is read at start and is
// safe for concurrent use; a crash leaves nothing behind, since it is built from the settings again.
package auth
