package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// attemptLayer makes one attempt whole: it bounds its time, reads the body to its end within the limit, and notes when
// the request may have left.
type attemptLayer struct {
	next    http.RoundTripper
	timeout func() time.Duration
	maxBody int64
	large   func(context.Context) (release func(), err error) // the account's
}

var errTooLong = errors.New("the answer is too long")

func (l *attemptLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	timeout := l.timeout()
	timedOut := fmt.Errorf("no whole answer within %s", timeout)
	ctx, cancel := context.WithTimeoutCause(req.Context(), timeout, timedOut)
	defer cancel()
	resp, err := l.next.RoundTrip(req.WithContext(traceConnection(ctx)))
	if err == nil {
		err = l.readBody(ctx, resp)
	}
	if err != nil && ctx.Err() != nil && req.Context().Err() == nil {
		return nil, timedOut
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// traceConnection notes in the call's exchange whether the attempt holds a connection. The transport tries again by
// itself only when nothing was written on the connection before, so asking for another one clears the note.
func traceConnection(ctx context.Context) context.Context {
	x := exchangeOf(ctx)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { x.left.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { x.left.Store(true) },
	})
}

// largeBody is the size from which on an answer is large: of those an account holds one at a time.
const largeBody = 1 << 20

// readBody replaces the body by its bytes in memory. The limit is on what comes out of decompression.
func (l *attemptLayer) readBody(ctx context.Context, resp *http.Response) error {
	defer resp.Body.Close()
	tooLong := fmt.Errorf("HTTP %d: %w: more than %d bytes", resp.StatusCode, errTooLong, l.maxBody)
	if resp.ContentLength > l.maxBody {
		return tooLong
	}
	body, err := l.readAll(ctx, resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer (HTTP %d): %w", resp.StatusCode, err)
	}
	if int64(len(body)) > l.maxBody {
		return tooLong
	}
	resp.Body = &memory{Reader: bytes.NewReader(body), body: body}
	return nil
}

// memory is a body that was read whole already.
type memory struct {
	*bytes.Reader
	body []byte
}

// Close has nothing to give back.
func (*memory) Close() error { return nil }

// bodyOf returns a body without reading it once more where it was read whole already.
func bodyOf(resp *http.Response) ([]byte, error) {
	if m, ok := resp.Body.(*memory); ok {
		return m.body, nil
	}
	return io.ReadAll(resp.Body)
}

// scratch holds *[]byte for large bodies: what floods us is dropped and leaves nothing to collect.
var scratch sync.Pool

// readAll reads to the end, or to one byte past the limit. A large body is read into scratch: a buffer that grows by
// copying takes several times the memory of what it holds.
func (l *attemptLayer) readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, min(largeBody, l.maxBody+1)))
	if err != nil || len(body) < largeBody {
		return body, err
	}
	room, err := exchangeOf(ctx).holdLarge(ctx, l.large, l.maxBody+1)
	if err != nil {
		return nil, err
	}
	n := copy(room, body)
	for n < len(room) {
		m, err := r.Read(room[n:])
		n += m
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return room[:n], nil
}
