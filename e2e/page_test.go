//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// chromium runs a headless browser on an address and returns what it prints.
func chromium(t *testing.T, address string, flags ...string) string {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; make e2e installs it (Debian: apt-get install chromium)", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--user-data-dir=" + filepath.Join(folder(t), "profile"),
	}, flags...)
	cmd := exec.CommandContext(ctx, path, append(args, address)...)
	var stderr bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &stderr, 5*time.Second
	cmd.Env = append(os.Environ(), "HOME="+folder(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("Chromium: %v\n%s", err, tail(stderr.String(), 20))
	}
	return string(out)
}

// DESIGN.md section 6: / shows a plain page with the links, which a browser renders without loading anything else.
func TestThePage(t *testing.T) {
	t.Parallel()
	d := startDemo(t, command{}, filepath.Join(folder(t), "data"))
	dom := chromium(t, d.url+"/", "--dump-dom")
	for _, part := range []string{"<title>Liaison</title>", "<h1>Liaison</h1>", `href="/readyz"`, `href="/healthz"`, `href="/metrics"`, "/graphql", "/hooks/{system}", "curl -s http://" + d.addr + "/graphql"} {
		if !strings.Contains(dom, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	if strings.Contains(dom, "<script") || strings.Contains(dom, "https://") {
		t.Error("the page loads something")
	}
	file := filepath.Join(folder(t), "page.png")
	if keep := os.Getenv("LIAISON_E2E_SCREENSHOT"); keep != "" {
		file = keep
	}
	chromium(t, d.url+"/", "--screenshot="+file, "--window-size=1000,900")
	image, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	picture, err := png.Decode(image)
	if err != nil {
		t.Fatal(err)
	}
	colours := map[any]bool{}
	for x := 0; x < picture.Bounds().Dx(); x += 3 {
		for y := 0; y < picture.Bounds().Dy(); y += 3 {
			colours[picture.At(x, y)] = true
		}
	}
	if len(colours) < 10 {
		t.Errorf("the screenshot has %d colours: nothing was drawn", len(colours))
	}

	// The links lead somewhere, and the curl on the page works when it is copied.
	for path, want := range map[string]string{"/readyz": "ready", "/healthz": "alive", "/metrics": "liaison_"} {
		if status, body, err := get(t, d.url+path); err != nil || status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s answers %d %.60q %v", path, status, body, err)
		}
	}
	_, html, err := get(t, d.url+"/")
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(html, "<pre>")
	command, _, found := strings.Cut(command, "</pre>")
	if !found {
		t.Fatal("the page shows no command")
	}
	var answer struct {
		Data struct {
			Incidents struct{ Nodes []struct{ Number string } }
		}
	}
	_, number := d.report(t, "Seen from the page")
	shell(t, strings.NewReplacer("&#39;", "'", "&#34;", `"`, "&quot;", `"`, "&amp;", "&").Replace(command), &answer)
	if got := answer.Data.Incidents.Nodes; len(got) != 1 || got[0].Number != number {
		t.Errorf("the page's command answers %+v, want %s", got, number)
	}
}
