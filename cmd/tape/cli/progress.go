// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/artifact"
)

// progress shows events. Its Write is for log lines and warnings, which must
// not garble a live view. Close leaves the terminal with the final state.
type progress interface {
	io.Writer
	Event(engine.Event)
	Close()
}

// newProgress makes the progress of the given mode on w, which is stderr.
func newProgress(mode string, w io.Writer) (progress, error) {
	if mode == "auto" {
		mode = "plain"
		if isTerminal(w) && os.Getenv("TERM") != "dumb" {
			mode = "tty"
		}
	}
	switch mode {
	case "tty":
		return newTTY(w, isTerminal(w) && os.Getenv("NO_COLOR") == ""), nil
	case "plain":
		return &plainLines{w: w, nodes: map[string]*nodeState{}}, nil
	case "json":
		return &jsonLines{w: w}, nil
	case "none":
		return quiet{w}, nil
	}
	return nil, usagef("unknown --progress %q: want auto, tty, plain, json or none", mode)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// quiet shows warnings, which are no progress, and nothing else.
type quiet struct{ io.Writer }

func (q quiet) Event(e engine.Event) {
	if e.Level == "warning" {
		fmt.Fprintf(q, "warning: %s\n", e.Message)
	}
}
func (quiet) Close() {}

// jsonLines is the event stream, one JSON object a line.
type jsonLines struct {
	mu sync.Mutex
	w  io.Writer
}

func (j *jsonLines) Event(e engine.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		return // an Event always encodes
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.w.Write(append(data, '\n'))
}

func (j *jsonLines) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.w.Write(p)
}

func (*jsonLines) Close() {}

// nodeState is what is known of a node from its events.
type nodeState struct {
	name           string
	state          engine.State
	begun, ended   time.Time
	current, total int64
	unit           string
	note           string
	printed        time.Time // plain: when a line was last printed
}

func (n *nodeState) apply(e engine.Event) {
	if e.State != "" {
		n.state = e.State
		switch e.State {
		case engine.Running:
			n.begun = e.At
		case engine.Waiting:
		default:
			n.ended = e.At
		}
	}
	if e.Current != 0 || e.Total != 0 {
		n.current, n.total, n.unit = e.Current, e.Total, e.Unit
	}
	if e.Message != "" && e.Level == "" {
		n.note = e.Message
	}
}

func (n *nodeState) elapsed(now time.Time) time.Duration {
	switch {
	case n.begun.IsZero():
		return 0
	case n.ended.IsZero():
		return now.Sub(n.begun)
	}
	return n.ended.Sub(n.begun)
}

// amount says how far the node is: "12.5 MB of 48.0 MB, 8.1 MB/s" or "3/5 images".
func (n *nodeState) amount(now time.Time) string {
	if n.total == 0 && n.current == 0 {
		return ""
	}
	if n.unit != "bytes" {
		if n.total == 0 {
			return strings.TrimSpace(fmt.Sprintf("%d %s", n.current, n.unit))
		}
		return strings.TrimSpace(fmt.Sprintf("%d/%d %s", n.current, n.total, n.unit))
	}
	s := artifact.Bytes(n.current)
	if n.total > n.current {
		s += " of " + artifact.Bytes(n.total)
	}
	if d := n.elapsed(now).Seconds(); d > 0.1 {
		s += ", " + artifact.Bytes(int64(float64(n.current)/d)) + "/s"
	}
	return s
}

// plainLines prints a line where a node begins to take time, ends, or has something
// to say: for logs and for terminals that cannot move the cursor.
type plainLines struct {
	mu    sync.Mutex
	w     io.Writer
	nodes map[string]*nodeState
}

// plainEvery is how often a running node is mentioned again.
const plainEvery = 5 * time.Second

func (p *plainLines) Event(e engine.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Node == "" && e.Level == "" { // of no node in particular
		fmt.Fprintln(p.w, e.Message)
		return
	}
	n := p.nodes[e.Node]
	if n == nil {
		n = &nodeState{name: e.Node}
		p.nodes[e.Node] = n
	}
	n.apply(e)
	if n.printed.IsZero() {
		n.printed = e.At
	}
	switch {
	case e.Level == "warning":
		fmt.Fprintf(p.w, "warning: %s\n", e.Message)
	case e.Message != "":
		fmt.Fprintf(p.w, "%s: %s\n", e.Node, e.Message)
	case e.State == engine.Failed:
		fmt.Fprintf(p.w, "%s: failed after %s\n", e.Node, seconds(n.elapsed(e.At)))
	case e.State == engine.Done, e.State == engine.Cached:
		line := fmt.Sprintf("%s: %s", e.Node, e.State)
		if d := n.elapsed(e.At); d >= 100*time.Millisecond {
			line += " in " + seconds(d)
		}
		if a := n.amount(e.At); a != "" {
			line += " (" + a + ")"
		}
		fmt.Fprintln(p.w, line)
	case e.State == "" && e.At.Sub(n.printed) > plainEvery:
		n.printed = e.At
		fmt.Fprintf(p.w, "%s: %s\n", e.Node, n.amount(e.At))
	}
}

func (p *plainLines) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(b)
}

func (*plainLines) Close() {}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// tty is the live view: one line a node, in the order in which they began.
type tty struct {
	mu    sync.Mutex
	bars  *mpb.Progress
	nodes map[string]*ttyNode
	names int // columns that the longest name takes
	color bool
}

type ttyNode struct {
	nodeState
	bar *mpb.Bar
}

// Columns of a node's name in the live view.
const leastName, mostName = 14, 32

func newTTY(w io.Writer, color bool) *tty {
	return &tty{
		bars: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(),
			mpb.WithRefreshRate(100*time.Millisecond), mpb.WithWidth(20)),
		nodes: map[string]*ttyNode{},
		color: color,
	}
}

func (t *tty) Event(e engine.Event) {
	if e.Node == "" && e.Level == "" { // of no node in particular
		_, _ = fmt.Fprintln(t, e.Message)
		return
	}
	t.mu.Lock()
	n := t.nodes[e.Node]
	if n == nil {
		n = &ttyNode{nodeState: nodeState{name: e.Node}}
		t.nodes[e.Node] = n
		t.names = max(t.names, min(len(e.Node), mostName))
	}
	n.apply(e)
	begins := n.bar == nil && (n.state == engine.Running || n.state == engine.Cached)
	ends := n.state == engine.Done || n.state == engine.Cached || n.state == engine.Failed || n.state == engine.Cancelled
	t.mu.Unlock()

	if e.Level == "warning" {
		_, _ = fmt.Fprintf(t, "%s %s\n", t.paint("33", "warning:"), e.Message)
	}
	if begins {
		bar, err := t.bars.Add(0, mpb.NopStyle().Build(), mpb.PrependDecorators(
			decor.Any(func(s decor.Statistics) string { return t.line(n, time.Now(), s.AvailableWidth) })))
		if err != nil {
			return // the view is closed already: a late event
		}
		t.mu.Lock()
		n.bar = bar
		t.mu.Unlock()
	}
	if ends && n.bar != nil {
		n.bar.SetTotal(-1, true)
	}
}

// line draws one node in width columns. It begins with a return: the terminal
// echoes what is typed meanwhile, such as ^C, and the view would go on beside it.
func (t *tty) line(n *ttyNode, now time.Time, width int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	mark := map[engine.State]string{
		engine.Running: t.paint("36", string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[now.UnixMilli()/100%10])),
		engine.Cached:  t.paint("34", "="), engine.Done: t.paint("32", "✓"),
		engine.Failed: t.paint("31", "✗"), engine.Cancelled: t.paint("33", "-"),
	}[n.state]
	parts := []string{fmt.Sprintf("%-*s %6s", max(t.names, leastName), n.name, seconds(n.elapsed(now)))}
	if n.state == engine.Cached {
		parts = append(parts, "kept")
	}
	if a := n.amount(now); a != "" {
		parts = append(parts, a)
	}
	if n.note != "" {
		parts = append(parts, n.note)
	}
	text := []rune(strings.Join(parts, "  "))
	// mpb counts colors as columns, and takes them away from what is too long.
	if room := max(width-utf8.RuneCountInString(mark)-1, 1); len(text) > room {
		text = append(text[:room-1], '…')
	}
	return "\r" + mark + " " + string(text)
}

func (t *tty) paint(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Write prints above the live lines.
func (t *tty) Write(b []byte) (int, error) { return t.bars.Write(b) }

// Close ends every line, also those of nodes that never ended, and waits until
// the last frame is drawn.
func (t *tty) Close() {
	t.mu.Lock()
	var open []*mpb.Bar
	for _, n := range t.nodes {
		if n.bar != nil && !n.bar.Completed() {
			open = append(open, n.bar)
		}
	}
	t.mu.Unlock()
	for _, b := range open {
		b.SetTotal(-1, true)
	}
	t.bars.Wait()
}
