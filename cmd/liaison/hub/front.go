package hub

import (
	_ "embed"
	"html/template"
	"net/http"

	"liaison/internal/config"
)

//go:embed front.html
var frontHTML string

var frontTemplate = template.Must(template.New("front").Parse(frontHTML))

// frontPage is what stands at / until the console does: where things are, and nothing that needs a sign-in.
func frontPage(c *config.Config) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		at := c.PublicURL
		if at == "" {
			at = "http://" + r.Host
		}
		_ = frontTemplate.Execute(w, map[string]string{"At": at}) // the caller has left: there is nobody to tell
	})
}
