// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/taped-dev/tape/cmd/tape/internal/show"
	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/internal/count"
)

// progress shows events. Its Write is for log lines and warnings, which must not garble a live
// view. Close leaves the final state on the terminal.
type progress interface {
	io.Writer
	Event(engine.Event)
	Close()
}

// newProgress returns the progress of the given mode on w, which is stderr.
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
		return &plainLines{locked: locked{w: w}, nodes: nodeStates{}, format: noticeText}, nil
	case "json":
		return &jsonLines{locked{w: w}}, nil
	case "github":
		return newGitHub(w), nil
	case "gitlab":
		return newGitLab(w, time.Now), nil
	case "none":
		return quiet{w}, nil
	}
	return nil, usagef("unknown --progress %q: want auto, tty, plain, github, gitlab, json or none", mode)
}

// cleaned removes terminal escapes from events and lines.
type cleaned struct{ progress }

func (c cleaned) Event(e engine.Event) {
	e.Node, e.Message = clean(e.Node), clean(e.Message)
	c.progress.Event(e)
}

func (c cleaned) Write(p []byte) (int, error) { return visible{c.progress}.Write(p) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// screen returns the size of a terminal in characters. known is false if it is unknown.
func screen(w io.Writer) (width, height int, known bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	width, height, err := term.GetSize(int(f.Fd()))
	return width, height, err == nil
}

// isNotice reports whether an event is a message that stays on the screen.
func isNotice(e engine.Event) bool { return e.Level == engine.Warning || e.Level == engine.Note }

// quiet shows only warnings and notes.
type quiet struct{ io.Writer }

func (q quiet) Event(e engine.Event) {
	if isNotice(e) {
		fmt.Fprintln(q, noticeText(e))
	}
}

func noticeText(e engine.Event) string { return e.Level + ": " + e.Message }

func (quiet) Close() {}

// locked is a writer that may be used concurrently.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// jsonLines prints the events, one JSON object per line.
type jsonLines struct{ locked }

func (j *jsonLines) Event(e engine.Event) {
	data, _ := json.Marshal(e) // an Event can always be encoded
	_, _ = j.Write(append(data, '\n'))
}

func (*jsonLines) Close() {}

// nodeState is the state of a node according to its events.
type nodeState struct {
	name           string
	state          engine.State
	begun, ended   time.Time
	current, total int64
	unit           string
	note           string
	printed        time.Time // plain: when a line was last printed
}

// nodeStates maps the names of nodes to their states.
type nodeStates map[string]*nodeState

// apply applies an event, and returns the node that it is about.
func (s nodeStates) apply(e engine.Event) *nodeState {
	n := s[e.Node]
	if n == nil {
		n = &nodeState{name: e.Node}
		s[e.Node] = n
	}
	n.apply(e)
	return n
}

func (n *nodeState) apply(e engine.Event) {
	if e.State != "" {
		n.state = e.State
		switch e.State {
		case engine.Running: // perhaps once more, in another run
			*n = nodeState{name: n.name, state: e.State, printed: n.printed, begun: e.At}
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

// amount returns the progress of the node: "12.5 MB of 48.0 MB, 8.1 MB/s", "3 of 5 images" or, if
// it is complete, "5 images".
func (n *nodeState) amount(now time.Time) string {
	if n.total == 0 && n.current == 0 {
		return ""
	}
	if n.unit != "bytes" {
		all := max(n.current, n.total)
		text := fmt.Sprint(all)
		if n.unit != "" {
			text = count.Of(all, strings.TrimSuffix(n.unit, "s"))
		}
		if n.current < all {
			text = fmt.Sprintf("%d of %s", n.current, text)
		}
		return text
	}
	if n.current == 0 && !n.ended.IsZero() { // everything existed, or the registry copied it itself
		return ""
	}
	s := show.Bytes(n.current)
	if n.total > n.current && n.ended.IsZero() {
		s += " of " + show.Bytes(n.total)
	}
	if d := n.elapsed(now).Seconds(); d > 0.1 && n.current > 0 {
		s += ", " + show.Bytes(int64(float64(n.current)/d)) + "/s"
	}
	return s
}

// plainLines prints a line when a node begins to take time, when it ends, and for each of its
// messages. It is for logs, and for terminals that cannot move the cursor.
type plainLines struct {
	format func(engine.Event) string // the text of a notice
	end    func() string             // the last line; nil if there is none

	locked
	nodes nodeStates
}

// plainEvery is the interval for printing the progress of a running node.
const plainEvery = 5 * time.Second

func (p *plainLines) Event(e engine.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Node == "" && e.Level == "" { // not about a particular node
		fmt.Fprintln(p.w, e.Message)
		return
	}
	n := p.nodes.apply(e)
	if n.printed.IsZero() {
		n.printed = e.At
	}
	switch {
	case isNotice(e):
		fmt.Fprintln(p.w, p.format(e))
	case e.State == engine.Skipped:
		fmt.Fprintf(p.w, "%s: %s (%s)\n", e.Node, e.State, e.Message)
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

func (p *plainLines) Close() {
	if p.end != nil {
		fmt.Fprintln(p, p.end())
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// tty is the live view: one line for each running node, below the lines of ended nodes, which are
// printed once. The part that is redrawn is small enough for any terminal.
type tty struct {
	bars  *mpb.Progress
	color bool
	rows  int        // maximum number of nodes that are drawn
	width func() int // columns; 0 if unknown

	turn    sync.Mutex // held while an event and everything printed for it is handled
	bar     *mpb.Bar   // everything that is redrawn; nil until something runs
	printed atomic.Bool

	// mu guards the state that frames are drawn from. It must not be held while printing, because
	// printing waits for the current frame, which needs it.
	mu      sync.Mutex
	nodes   nodeStates
	running []*nodeState // in the order in which they started
	names   int          // columns of the longest name
}

const (
	// Minimum and maximum number of columns for the name of a node in the live view.
	leastName, mostName = 14, 32
	// mostRunning is the number of nodes that are drawn if the terminal is high enough.
	mostRunning = 8
)

func newTTY(w io.Writer, color bool) *tty {
	rows := mostRunning
	if _, height, known := screen(w); known { // one line is for the cursor
		rows = max(min(height-1, mostRunning), 1)
	}
	return &tty{
		bars: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(),
			mpb.WithRefreshRate(100*time.Millisecond), mpb.WithWidth(20)),
		nodes: nodeStates{},
		color: color,
		rows:  rows,
		width: func() int {
			width, _, _ := screen(w)
			return width
		},
	}
}

func (t *tty) Event(e engine.Event) {
	if e.Node == "" && e.Level == "" { // not about a particular node
		_, _ = fmt.Fprintln(t, e.Message)
		return
	}
	if isNotice(e) {
		_, _ = fmt.Fprintf(t, "%s %s\n", t.paint("33", e.Level+":"), e.Message)
	}
	t.turn.Lock()
	defer t.turn.Unlock()
	n := t.apply(e)
	switch e.State {
	case engine.Running:
		t.mu.Lock()
		t.running = append(t.running, n)
		t.mu.Unlock()
		if t.bar == nil {
			t.bar = t.draw()
		}
	case engine.Done, engine.Cached, engine.Skipped, engine.Failed, engine.Cancelled:
		t.end(n, e.At)
	}
}

func (t *tty) apply(e engine.Event) *nodeState {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = max(t.names, min(len(e.Node), mostName))
	return t.nodes.apply(e)
}

// draw starts to draw the running nodes: the first one as the bar, the others below it. It does
// nothing if the view is already closed, so that a late event is ignored.
func (t *tty) draw() *mpb.Bar {
	others := make([]mpb.BarFiller, t.rows-1)
	for i := range others {
		others[i] = mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
			line := t.line(i+1, time.Now(), s.AvailableWidth)
			if line == "" {
				return nil
			}
			_, err := fmt.Fprintln(w, line)
			return err
		})
	}
	first := decor.Any(func(s decor.Statistics) string { return t.line(0, time.Now(), s.AvailableWidth) })
	bar, _ := t.bars.Add(0, mpb.NopStyle().Build(), mpb.PrependDecorators(first), mpb.BarBtmExtender(others...))
	return bar
}

// end prints the final line of a node above those of running nodes, and stops drawing the node. A
// node that was cancelled before it started has no line.
func (t *tty) end(n *nodeState, now time.Time) {
	t.mu.Lock()
	ran := slices.Contains(t.running, n)
	t.running = slices.DeleteFunc(t.running, func(r *nodeState) bool { return r == n })
	line := t.fit(n, now, t.width())
	t.mu.Unlock()
	if ran || n.state != engine.Cancelled {
		_, _ = fmt.Fprintln(t, line)
	}
}

// line draws the i-th running node in width columns, or nothing if fewer are running. It begins
// with a carriage return, because the terminal echoes typed characters, such as ^C, which moves
// the cursor.
func (t *tty) line(i int, now time.Time, width int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i >= len(t.running) {
		return ""
	}
	return "\r" + t.fit(t.running[i], now, width)
}

// fit returns the line of a node, cut to width columns unless width is 0.
func (t *tty) fit(n *nodeState, now time.Time, width int) string {
	mark, text := t.mark(n, now), []rune(t.text(n, now))
	// mpb counts color codes as columns, and would cut them off.
	if room := max(width-utf8.RuneCountInString(mark)-1, 1); width > 0 && len(text) > room {
		text = append(text[:room-1], '…')
	}
	return mark + " " + string(text)
}

func (t *tty) mark(n *nodeState, now time.Time) string {
	switch n.state {
	case engine.Cached:
		return t.paint("34", "=")
	case engine.Done:
		return t.paint("32", "✓")
	case engine.Skipped:
		return t.paint("34", "○")
	case engine.Failed:
		return t.paint("31", "✗")
	case engine.Cancelled:
		return t.paint("33", "-")
	}
	return t.paint("36", string([]rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[now.UnixMilli()/100%10]))
}

// text returns the content of a node's line.
func (t *tty) text(n *nodeState, now time.Time) string {
	parts := []string{fmt.Sprintf("%-*s %6s", max(t.names, leastName), n.name, seconds(n.elapsed(now)))}
	if n.state == engine.Cached || n.state == engine.Skipped {
		parts = append(parts, string(n.state))
	}
	if a := n.amount(now); a != "" {
		parts = append(parts, a)
	}
	switch {
	case n.state == engine.Skipped:
		parts = append(parts, "("+n.note+")")
	case n.note != "":
		parts = append(parts, n.note)
	}
	return strings.Join(parts, "  ")
}

func (t *tty) paint(code, s string) string {
	if !t.color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Write prints above the live lines. Like line, it begins with a carriage return, because typed
// characters may have moved the cursor.
func (t *tty) Write(b []byte) (int, error) {
	t.printed.Store(true)
	if _, err := t.bars.Write(append([]byte("\r"), b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close ends every line, including those of nodes that never ended, and waits until the last
// frame is drawn.
func (t *tty) Close() {
	t.turn.Lock()
	defer t.turn.Unlock()
	t.mu.Lock()
	open := slices.Clone(t.running)
	for _, n := range open {
		n.state = engine.Cancelled
	}
	t.mu.Unlock()
	for _, n := range open {
		t.end(n, time.Now())
	}
	if t.bar == nil && t.printed.Load() {
		t.bar = t.draw() // the bar is needed to print the last lines
	}
	if t.bar != nil {
		t.bar.Abort(true)
	}
	t.bars.Wait()
}
