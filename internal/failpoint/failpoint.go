package failpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Code is the exit code of a program that ended at a point: what a shell says of one that was killed.
const Code = 137

// Files of the folder.
const (
	OrderFile  = "order"  // written by the test
	ExitedFile = "exited" // written by the program that ends
)

// Points are the points of one program.
type Points struct {
	dir  string
	exit func(code int)

	mu     sync.Mutex
	order  string
	list   *os.File // set while an order is to list
	point  string   // set while an order is to exit
	turn   int
	passed map[string]int
}

// Open returns points that take their orders from a folder.
func Open(dir string) (*Points, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("FAILPOINTS: %q is no folder; name one that exists", dir)
	}
	return &Points{dir: dir, exit: os.Exit}, nil
}

// pass is called at each point. What goes wrong here must not look like a fault of the hub, so it panics.
func (p *Points) pass(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.obey(); err != nil {
		panic(err)
	}
	if p.list != nil {
		if _, err := p.list.WriteString(name + "\n"); err != nil {
			panic(fmt.Errorf("listing fail points: %w", err))
		}
	}
	if p.point != name {
		return
	}
	if p.passed[name]++; p.passed[name] == p.turn {
		if err := os.WriteFile(filepath.Join(p.dir, ExitedFile), []byte(name+"\n"), 0o600); err != nil {
			panic(fmt.Errorf("ending at a fail point: %w", err))
		}
		p.exit(Code)
	}
}

// obey reads the order, when there is a new one.
func (p *Points) obey() error {
	text, err := os.ReadFile(filepath.Join(p.dir, OrderFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the order for fail points: %w", err)
	}
	order := strings.TrimSpace(string(text))
	if order == p.order {
		return nil
	}
	if p.list != nil {
		_ = p.list.Close() // each line is written already
	}
	p.order, p.list, p.point, p.turn, p.passed = order, nil, "", 0, map[string]int{}
	verb, rest, _ := strings.Cut(order, " ")
	switch verb {
	case "":
		return nil
	case "list":
		p.list, err = os.OpenFile(filepath.Join(p.dir, filepath.Base(rest)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		return err
	case "exit":
		turn, point, _ := strings.Cut(rest, " ")
		p.point = point
		if p.turn, err = strconv.Atoi(turn); err == nil && p.turn > 0 && point != "" {
			return nil
		}
	}
	return fmt.Errorf("order %q for fail points: write \"list NAME\" or \"exit N POINT\"", order)
}
