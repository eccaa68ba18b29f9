// SPDX-License-Identifier: Apache-2.0

//go:build bench

// Package bench benchmarks tape and its peers. Its tests are built with the tag bench and run
// by `make bench`, which builds the commands first: tape is measured as the process that users
// start, and so is crane's library, in a child of the test. Both use registries inside the
// test's own process, which count requests and can delay each of them.
//
// The result is a table. Times are only printed; the number of requests, which must be the same
// on every machine, fails the test.
package bench

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
)

// rounds is how often each comparison is run; the median is used.
const rounds = 3

// TestMain is also the two kinds of child that a test starts: one launches what is measured,
// and one is measured as crane.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(launchJob) != "":
		err = launch(os.Args[1:])
	case os.Getenv(craneJob) != "":
		err = runCrane(os.Getenv(craneJob))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestBench(t *testing.T) {
	var rows table
	for _, m := range []struct {
		name    string
		measure func(*testing.T, *table)
	}{
		{"manySmall", manySmall},
		{"fewLarge", fewLarge},
		{"hugeLayer", hugeLayer},
		{"saveAndLoad", saveAndLoad},
		{"copyAndVerify", copyAndVerify},
		{"manyDocuments", manyDocuments},
		{"version", version},
		{"startUp", startUp},
		{"charts", charts},
		{"environments", environments},
		{"unchanged", unchanged},
		{"largeOutput", largeOutput},
		{"sideBySide", sideBySide},
	} {
		t.Run(m.name, func(t *testing.T) { m.measure(t, &rows) })
	}
	t.Log("\n" + rows.String())
}

// manySmall copies 100 images of two platforms from a distant registry, twice.
func manySmall(t *testing.T, rows *table) {
	const images, delay = 100, 20 * time.Millisecond
	var taped, craned, bared, again []sample
	for range rounds {
		// ~6 MB in all.
		l := newLab(t, images, registrytest.Image{Layers: []int64{20_000, 8_000}, Inline: 1, Signatures: 1})
		l.delay(delay)
		craned = append(craned, l.crane(t, 8))
		bared = append(bared, l.work(t, craneWork{Verb: "bare", Images: l.images, To: l.dstAddr + "/bare", Jobs: atOnce}))
		taped = append(taped, l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape"))
		l.delay(0)
		again = append(again, l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape"))
	}
	mine, theirs, least, second := median(taped), median(craned), median(bared), median(again)
	rows.ratio("100 images, 20 ms a request: time, against 8 crane copy at once", 0.5, mine.Wall.Seconds(), theirs.Wall.Seconds(), "s")
	rows.ratio("  against a client that makes only the requests needed", 1.4, mine.Wall.Seconds(), least.Wall.Seconds(), "s")
	rows.count(t, fmt.Sprintf("  requests (crane: %d, only those needed: %d)", theirs.requests, least.requests), 6300, mine.requests)
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
	rows.most("  again, nothing changed, 0 ms: time", 0.5, second.Wall.Seconds(), "s")
	rows.count(t, "  again: requests an image", 15, (second.requests+images-1)/images)
	rows.count(t, "  again: bodies of images' manifests and blobs", 0, second.bodies)
}

// fewLarge copies 12 images of two platforms, 165 MB, from a nearby registry.
func fewLarge(t *testing.T, rows *table) {
	const images = 12
	var taped, craned, streamed []sample
	for range rounds {
		l := newLab(t, images, registrytest.Image{Layers: []int64{4_500_000, 2_000_000, 375_000}, Inline: 1, Signatures: 1})
		craned = append(craned, l.crane(t, 1))
		streamed = append(streamed, l.work(t, craneWork{Verb: "stream", Images: l.blobs(t), To: l.dstAddr + "/bare", Jobs: 8}))
		taped = append(taped, l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape"))
	}
	mine, theirs := median(taped), median(craned)
	rows.ratio("12 images, 165 MB: time, against crane copy one after another", 0.7, mine.Wall.Seconds(), theirs.Wall.Seconds(), "s")
	rows.ratio("  against a copy of the same bytes from body to body", 1.6, mine.Wall.Seconds(), median(streamed).Wall.Seconds(), "s")
	rows.ratio("  processor time, in a store that is all new", 1, mine.CPU.Seconds(), theirs.CPU.Seconds(), "s")
	rows.most("  peak memory", 150, float64(mine.Memory)/1e6, "MB")
}

// atOnce is the maximum number of concurrent requests of tape to one registry.
const atOnce = 64

// blobs returns the URLs of all blobs of the images in the lab.
func (l *lab) blobs(t *testing.T) []string {
	t.Helper()
	var out []string
	for i, ref := range l.images {
		name := strings.TrimSuffix(ref, ":1.0")
		var add func(reference string)
		add = func(reference string) {
			_, data, err := (&bare{client: http.DefaultClient, slots: make(chan struct{}, 1)}).get(name + "/manifests/" + reference)
			var m struct {
				Config            *ocispec.Descriptor
				Layers, Manifests []ocispec.Descriptor
			}
			if err == nil {
				err = json.Unmarshal(data, &m)
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.Config != nil {
				m.Layers = append(m.Layers, *m.Config)
			}
			for _, blob := range m.Layers {
				out = append(out, name+"/blobs/"+blob.Digest.String())
			}
			for _, child := range m.Manifests {
				add(child.Digest.String())
			}
		}
		add(l.digests[i])
	}
	return out
}

// hugeLayer copies one image with a layer of 2 GB.
func hugeLayer(t *testing.T, rows *table) {
	l := newLab(t, 1, registrytest.Image{Single: true, Layers: []int64{2 << 30}})
	l.dst.Store(holder{registrytest.Distribution(t.TempDir())})
	s := l.tape(t, "package", l.manifests, "-O", l.dstAddr+"/tape")
	rows.most(fmt.Sprintf("a layer of 2 GB (in %.1f s): peak memory", s.Wall.Seconds()), 150, float64(s.Memory)/1e6, "MB")
}

// manyDocuments scans 10,000 documents in 17 MB, in 100 files.
func manyDocuments(t *testing.T, rows *table) {
	dir, size := t.TempDir(), 0
	for file := range 100 {
		var buf bytes.Buffer
		for doc := range 50 { // two documents each
			name := fmt.Sprintf("app-%d-%d", file, doc)
			fmt.Fprintf(&buf, workload, name, fmt.Sprintf("registry.example/team/%s:%d", name, doc))
			fmt.Fprintf(&buf, "  notes: |\n")
			for line := range 31 {
				fmt.Fprintf(&buf, "    %02d what a person wrote about %s: nothing here is an image, but it has to be read\n", line, name)
			}
		}
		size += buf.Len()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.yaml", file)), buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var samples []sample
	l := &lab{store: t.TempDir()}
	for range rounds {
		samples = append(samples, l.tape(t, "images", "--no-resolve", "-o", "json", dir))
	}
	s := median(samples)
	rows.most(fmt.Sprintf("images --no-resolve, 10,000 documents in %d MB: time", size/1e6), 2, s.Wall.Seconds(), "s")
	rows.most("  peak memory", 150, float64(s.Memory)/1e6, "MB")
}

func version(t *testing.T, rows *table) {
	var samples []sample
	l := &lab{store: t.TempDir()}
	for range 3 * rounds {
		samples = append(samples, l.tape(t, "version"))
	}
	rows.most("version", 50, milliseconds(median(samples).Wall), "ms")
}

// workload is a Deployment and the beginning of a ConfigMap.
const workload = `---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  labels:
    app.kubernetes.io/name: %[1]s
    app.kubernetes.io/part-of: bench
spec:
  replicas: 2
  selector:
    matchLabels:
      app.kubernetes.io/name: %[1]s
  template:
    metadata:
      labels:
        app.kubernetes.io/name: %[1]s
    spec:
      containers:
        - name: main
          image: %[2]s
          args: ["--listen=:8080", "--log-level=info"]
          resources:
            requests: {cpu: 100m, memory: 64Mi}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: %[1]s
data:
`

// lab is an upstream with images, a registry to copy them to, and the manifests of an
// application that refers to them. The registry is the cheapest one, because it shares the
// processors with what is measured.
type lab struct {
	up, down         *registrytest.Counter
	upAddr, dstAddr  string
	dst              atomic.Value // http.Handler
	wait             atomic.Int64
	images           []string // references at the upstream
	digests          []string
	manifests, store string // folders
}

func newLab(t *testing.T, images int, img registrytest.Image) *lab {
	t.Helper()
	l := &lab{manifests: t.TempDir(), store: t.TempDir()}
	upstream := &registrytest.Upstream{Image: func(string, string) (registrytest.Image, bool) { return img, true }}
	l.dst.Store(holder{newRegistry()})
	l.up = registrytest.Count(l.delayed(func() http.Handler { return upstream }))
	l.down = registrytest.Count(l.delayed(func() http.Handler { return l.dst.Load().(holder) }))
	l.upAddr, l.dstAddr = registrytest.Serve(t, l.up), registrytest.Serve(t, l.down)
	for i := range images {
		name := fmt.Sprintf("bench/app%d", i)
		desc, err := upstream.Resolve(name, "1.0")
		if err != nil {
			t.Fatal(err)
		}
		l.digests = append(l.digests, desc.Digest.String())
		ref := l.upAddr + "/" + name + ":1.0"
		l.images = append(l.images, ref)
		data := fmt.Appendf(nil, workload, fmt.Sprintf("app%d", i), ref)
		if err := os.WriteFile(filepath.Join(l.manifests, fmt.Sprintf("app%d.yaml", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// delayed responds after the delay that is currently set.
func (l *lab) delayed(next func() http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registrytest.Delay(next(), time.Duration(l.wait.Load())).ServeHTTP(w, r)
	})
}

func (l *lab) delay(d time.Duration) { l.wait.Store(int64(d)) }

// sample is one run of a process.
type sample struct {
	Wall, CPU time.Duration
	Memory    int64 // bytes, at most
	requests  int   // to both registries
	bodies    int   // manifests and blobs of images that were read, blobs that were written
	uploaded  int64 // bytes of blobs
}

// tape runs the command built by make.
func (l *lab) tape(t *testing.T, args ...string) sample {
	t.Helper()
	return l.run(t, "", append([]string{filepath.Join(bin(t), "tape"), "--store", l.store, "--progress", "none"}, args...)...)
}

// crane copies every image with the given number of concurrent jobs.
func (l *lab) crane(t *testing.T, jobs int) sample {
	t.Helper()
	return l.work(t, craneWork{Verb: "copy", Images: l.images, To: l.dstAddr + "/crane", Jobs: jobs})
}

func (l *lab) work(t *testing.T, work craneWork) sample {
	t.Helper()
	job, err := json.Marshal(work)
	if err != nil {
		t.Fatal(err)
	}
	return l.run(t, string(job), os.Args[0])
}

// run launches a command through the launcher: a process starts with the peak memory of its
// parent, and this process contains registries.
func (l *lab) run(t *testing.T, job string, command ...string) sample {
	t.Helper()
	if l.up != nil {
		l.up.Reset()
		l.down.Reset()
	}
	cmd := exec.Command(os.Args[0], command...)
	// A folder without credentials; the same each time, because renderings may depend on it.
	config := cmp.Or(l.store, t.TempDir())
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config, launchJob+"=1", craneJob+"="+job)
	var result, output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &result, &output
	var s sample
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(result.Bytes(), &s)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, output.String())
	}
	if l.up != nil {
		up, down := l.up.Reset(), l.down.Reset()
		s.requests = up.Total() + down.Total()
		s.bodies = up.Requests["GET manifests"] + up.Requests["GET blobs"] + down.Requests["GET blobs"] + down.Requests["PUT uploads"]
		s.uploaded = down.Bytes["POST uploads"] + down.Bytes["PATCH uploads"] + down.Bytes["PUT uploads"]
	}
	return s
}

// launchJob is the variable that makes the child a launcher.
const launchJob = "TAPE_BENCH_LAUNCH"

// launch runs a command and writes its sample to the output.
func launch(command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, launchJob) })
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(sample{
		Wall:   time.Since(start),
		CPU:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		Memory: cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10,
	})
}

// craneJob is the variable with the job of the child.
const craneJob = "TAPE_BENCH_CRANE"

// craneWork is a job for crane.
type craneWork struct {
	Verb   string // copy, pull, push, bare or stream
	Images []string
	To     string // repository, or reference
	Folder string // a layout
	Jobs   int
}

func runCrane(text string) error {
	var work craneWork
	if err := json.Unmarshal([]byte(text), &work); err != nil {
		return err
	}
	switch work.Verb {
	case "copy":
		return work.copy()
	case "pull":
		return work.pull()
	case "bare":
		return work.bare()
	case "stream":
		return work.stream()
	}
	return work.push()
}

func (w craneWork) copy() error {
	var group errgroup.Group
	group.SetLimit(w.Jobs)
	for i, image := range w.Images {
		group.Go(func() error { return crane.Copy(image, fmt.Sprintf("%s:app%d", w.To, i)) })
	}
	return group.Wait()
}

func median(samples []sample) sample {
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.Wall, b.Wall) })
	return samples[len(samples)/2]
}

// table is the table of results.
type table struct{ rows []string }

func (r *table) add(what, target, measured string, met bool) {
	verdict := "yes"
	if !met {
		verdict = "NO"
	}
	r.rows = append(r.rows, fmt.Sprintf("%s\t%s\t%s\t%s", what, target, measured, verdict))
}

// most adds a value with an upper bound.
func (r *table) most(what string, bound, value float64, unit string) {
	r.add(what, fmt.Sprintf("≤ %g %s", bound, unit), fmt.Sprintf("%.3g %s", value, unit), value <= bound)
}

// ratio adds tape's value relative to a peer's.
func (r *table) ratio(what string, bound, mine, theirs float64, unit string) {
	r.add(what, fmt.Sprintf("≤ %g of it", bound), fmt.Sprintf("%.2f (%.3g against %.3g %s)", mine/theirs, mine, theirs, unit), mine <= bound*theirs)
}

// over adds how many milliseconds longer than a peer tape may take.
func (r *table) over(what string, bound float64, mine, theirs time.Duration) {
	more := milliseconds(mine - theirs)
	r.add(what, fmt.Sprintf("≤ %g ms more", bound),
		fmt.Sprintf("%+.0f ms, %.2f of it (%.0f against %.0f ms)", more, mine.Seconds()/theirs.Seconds(), milliseconds(mine), milliseconds(theirs)), more <= bound)
}

// count adds a number that does not depend on the machine.
func (r *table) count(t *testing.T, what string, bound, value int) {
	t.Helper()
	r.add(what, fmt.Sprintf("≤ %d", bound), fmt.Sprint(value), value <= bound)
	if value > bound {
		t.Errorf("%s: %d, at most %d", strings.TrimSpace(what), value, bound)
	}
}

func (r *table) String() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "what\ttarget\tmeasured\tmet")
	for _, row := range r.rows {
		fmt.Fprintln(w, row)
	}
	w.Flush()
	return out.String()
}

// holder gives every handler the same type, as atomic.Value requires.
type holder struct{ http.Handler }
