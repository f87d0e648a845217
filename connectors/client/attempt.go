package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"
)

// attemptLayer makes one attempt whole: it bounds its time, reads the body to its end within the limit, and notes when
// the request may have left.
type attemptLayer struct {
	next    http.RoundTripper
	timeout time.Duration
	maxBody int64
}

var errTooLong = errors.New("the answer is too long")

func (l *attemptLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	timedOut := fmt.Errorf("no whole answer within %s", l.timeout)
	ctx, cancel := context.WithTimeoutCause(req.Context(), l.timeout, timedOut)
	defer cancel()
	resp, err := l.next.RoundTrip(req.WithContext(traceConnection(ctx)))
	if err == nil {
		err = l.readBody(resp)
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

// readBody replaces the body by its bytes in memory. The limit is on what comes out of decompression.
func (l *attemptLayer) readBody(resp *http.Response) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, l.maxBody+1))
	if err != nil {
		return fmt.Errorf("reading the answer (HTTP %d): %w", resp.StatusCode, err)
	}
	if int64(len(body)) > l.maxBody {
		return fmt.Errorf("HTTP %d: %w: more than %d bytes", resp.StatusCode, errTooLong, l.maxBody)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}
