// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/stages/app"
	"github.com/taped-dev/tape/stages/artifact"
	"github.com/taped-dev/tape/stages/sign"
)

// promoted is a registry with signed applications, and a promoter.
type promoted struct {
	*environments
	public string
	signer *app.Key // of records
	by     *app.Key // of applications
}

func newPromoted(t *testing.T) *promoted {
	t.Helper()
	p := &promoted{environments: newEnvironments(t)}
	p.public, p.by = newKey(t)
	_, p.signer = newKey(t)
	return p
}

// release packs and signs the application on a given day.
func (p *promoted) release(t *testing.T, tag string, day int) (ref string, root digest.Digest) {
	t.Helper()
	o := p.options()
	o.Signer, o.Created = p.by, time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)
	result, err := app.Package(t.Context(), app.PackageOptions{Options: o, Repository: p.dst + "/dev/shop", Tags: []string{tag}})
	if err != nil {
		t.Fatal(err)
	}
	return p.dst + "/dev/shop:" + tag, result.Root.Digest
}

func (p *promoted) promote(ctx context.Context, ref string, change ...func(*app.PromoteOptions)) (*app.PromoteResult, error) {
	o := app.PromoteOptions{Environment: p.env, Source: ref, Target: p.dst + "/prod/shop:live", Key: p.public, Signer: p.signer}
	for _, c := range change {
		c(&o)
	}
	return app.Promote(ctx, o)
}

// root returns the digest that the tag of the promotions points to, "" if it does not exist.
func (p *promoted) root(t *testing.T) digest.Digest {
	t.Helper()
	repository, err := p.env.Registry.Repository(p.dst + "/prod/shop")
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repository.Resolve(t.Context(), "live")
	if err != nil {
		return ""
	}
	return desc.Digest
}

// TestPromote promotes two releases, goes back to the first, and reads the history.
func TestPromote(t *testing.T) {
	p := newPromoted(t)
	old, oldRoot := p.release(t, "v1", 1)
	next, nextRoot := p.release(t, "v2", 2)
	day := func(n int) func(*app.PromoteOptions) {
		return func(o *app.PromoteOptions) { o.At = time.Date(2026, 2, n, 0, 0, 0, 0, time.UTC) }
	}
	first, err := p.promote(t.Context(), old, day(1), func(o *app.PromoteOptions) { o.Env, o.Reason = "prod", "first" })
	if err != nil {
		t.Fatal(err)
	}
	if first.Existing || first.Previous != "" || first.Digest != oldRoot || p.root(t) != oldRoot {
		t.Errorf("first: %+v", first)
	}
	again, err := p.promote(t.Context(), old, day(2), func(o *app.PromoteOptions) { o.Env = "prod" })
	if err != nil {
		t.Fatal(err)
	}
	if !again.Existing || again.Record != first.Record || len(again.MovedTags) > 0 || again.Moved.Blobs > 0 {
		t.Errorf("a second time: %+v", again)
	}
	second, err := p.promote(t.Context(), next, day(3))
	if err != nil {
		t.Fatal(err)
	}
	if second.Previous != oldRoot || p.root(t) != nextRoot {
		t.Errorf("second: %+v", second)
	}
	// Verifying with another key reports the signature only, not the records.
	other, _ := newKey(t)
	verified, err := app.Verify(t.Context(), app.VerifyOptions{Environment: p.env, Ref: p.dst + "/prod/shop:live", Key: other})
	if err != nil {
		t.Fatal(err)
	}
	if reason := failing(verified)["signature"]; strings.Count(reason, "not signed by this key") != 1 || strings.Contains(reason, "sha256:") {
		t.Errorf("verified with another key: %s", reason)
	}
	for _, ref := range []string{old, p.dst + "/dev/shop@" + oldRoot.String()} {
		if _, err := p.promote(t.Context(), ref, day(4)); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "it is older than what the tag leads to") {
			t.Errorf("back to %s: %v", ref, err)
		}
	}
	if p.root(t) != nextRoot {
		t.Error("a refused promotion moved the tag")
	}
	if _, err := p.promote(t.Context(), old, day(5), func(o *app.PromoteOptions) { o.Force, o.Reason = true, "v2 is broken" }); err != nil {
		t.Fatal(err)
	}
	// A record states that the second release was promoted before; its commit is later.
	if _, err := p.promote(t.Context(), next, day(6)); !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "it was promoted before") {
		t.Errorf("to what was there before: %v", err)
	}
	view, err := app.View(t.Context(), app.ViewOptions{Environment: p.env, Ref: p.dst + "/prod/shop:live"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range view.Promotions {
		if r.KeyHint == "" || r.To != p.dst+"/prod/shop:live" {
			t.Errorf("record %+v", r)
		}
		got = append(got, r.At.Format("02")+" "+strings.TrimPrefix(r.From, p.dst)+" "+r.Environment+" "+r.Reason)
	}
	if want := "05 /dev/shop:v1  v2 is broken|03 /dev/shop:v2  |01 /dev/shop:v1 prod first"; strings.Join(got, "|") != want {
		t.Errorf("history %q, want %q", got, want)
	}
	if view.Promotions[0].Previous != nextRoot || len(view.Signatures) != 2 {
		t.Errorf("%+v, signatures %+v", view.Promotions[0], view.Signatures)
	}
	// It is still what its vendor signed, here and in an archive.
	archive := (&signedApp{env: p.env, ref: p.dst + "/prod/shop:live"}).save(t)
	for _, ref := range []string{p.dst + "/prod/shop:live", "archive:" + archive} {
		r, err := app.Verify(t.Context(), app.VerifyOptions{Environment: p.env, Ref: ref, Key: p.public})
		if err != nil {
			t.Fatal(err)
		}
		if !r.OK {
			t.Errorf("%s: %v", ref, failing(r))
		}
	}
}

// TestPromoteRefuses checks that the tag is not moved.
func TestPromoteRefuses(t *testing.T) {
	p := newPromoted(t)
	ref, root := p.release(t, "v1", 1)
	p.pack(t, p.options()) // not signed
	other, _ := newKey(t)
	var usage *app.UsageError
	for name, c := range map[string]struct {
		ref    string
		change func(*app.PromoteOptions)
		policy bool
		want   string
	}{
		"not signed":           {p.ref, func(*app.PromoteOptions) {}, true, "no signature is attached"},
		"signed by another":    {ref, func(o *app.PromoteOptions) { o.Key = other }, true, "it is not verified: signature"},
		"by the same key":      {ref, func(o *app.PromoteOptions) { o.Signer = p.by }, false, "promote with another key"},
		"no key":               {ref, func(o *app.PromoteOptions) { o.Signer = nil }, false, "a key is missing"},
		"nobody to trust":      {ref, func(o *app.PromoteOptions) { o.Key = "" }, false, "the public key of its signer"},
		"another environment":  {ref, func(o *app.PromoteOptions) { o.Env = "test" }, false, `no environment "test"; want dev, prod`},
		"to a digest":          {ref, func(o *app.PromoteOptions) { o.Target = p.dst + "/prod/shop@" + root.String() }, false, "not to a digest"},
		"a digest to nowhere":  {p.dst + "/dev/shop@" + root.String(), func(o *app.PromoteOptions) { o.Target = p.dst + "/prod/shop" }, false, "name the tag"},
		"to a tag of an image": {ref, func(o *app.PromoteOptions) { o.Target = p.dst + "/prod/shop:manifests.v1" }, false, "manifests.v1"},
	} {
		_, err := p.promote(t.Context(), c.ref, c.change)
		if err == nil || errors.Is(err, engine.ErrPolicy) != c.policy || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(name, "to") && !errors.As(err, &usage) && !strings.Contains(name, "tag") {
			t.Errorf("%s: %v is not a usage error", name, err)
		}
	}
	if got := p.root(t); got != "" {
		t.Errorf("the tag leads to %s", got)
	}
}

// TestPromotedRecord fails to continue from a record that was changed.
func TestPromotedRecord(t *testing.T) {
	p := newPromoted(t)
	old, oldRoot := p.release(t, "v1", 1)
	next, _ := p.release(t, "v2", 2)
	first, err := p.promote(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := p.env.Registry.Repository(p.dst + "/prod/shop")
	if err != nil {
		t.Fatal(err)
	}
	now, err := repository.Resolve(t.Context(), oldRoot.String())
	if err != nil {
		t.Fatal(err)
	}
	history, err := artifact.History(t.Context(), repository, oldRoot)
	if err != nil || len(history) != 1 || history[0].Digest != first.Record {
		t.Fatalf("%+v, %v", history, err)
	}
	put := func(bundle []byte) {
		t.Helper()
		manifest, err := sign.Manifest(bundle, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range [][]byte{[]byte("{}"), bundle} {
			pushed, err := http.Post("http://"+p.dst+"/v2/prod/shop/blobs/uploads/?digest="+digest.FromBytes(blob).String(), "application/octet-stream", strings.NewReader(string(blob)))
			if err != nil {
				t.Fatal(err)
			}
			_ = pushed.Body.Close()
			if pushed.StatusCode != http.StatusCreated {
				t.Fatal(pushed.Status)
			}
		}
		if err := repository.PushReferrer(t.Context(), manifest.Desc, manifest.Data); err != nil {
			t.Fatal(err)
		}
	}
	var bundle map[string]any
	if err := json.Unmarshal(history[0].Bundle, &bundle); err != nil {
		t.Fatal(err)
	}
	envelope := bundle["dsseEnvelope"].(map[string]any)
	var statement artifact.Statement
	payload, err := json.Marshal(envelope["payload"])
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	if err := json.Unmarshal(payload, &data); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &statement); err != nil {
		t.Fatal(err)
	}
	statement.Predicate = json.RawMessage(strings.Replace(string(statement.Predicate), `/dev/shop:v1"`, `/dev/shop:v9"`, 1))
	if envelope["payload"], err = json.Marshal(statement); err != nil {
		t.Fatal(err)
	}
	changed, err := json.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	put(changed)
	for _, ref := range []string{old, next} {
		_, err := p.promote(t.Context(), ref, func(o *app.PromoteOptions) { o.Force = true })
		if !errors.Is(err, engine.ErrPolicy) || !strings.Contains(err.Error(), "is not what was signed") {
			t.Errorf("%s after a record was changed: %v", ref, err)
		}
	}
	if p.root(t) != oldRoot {
		t.Error("a refused promotion moved the tag")
	}
}

// A promoter is recognised by identity, or by the key with a timestamp, and the record names
// the policy that the application was verified with.
func TestPromoteAgain(t *testing.T) {
	p := newPromoted(t)
	s := newSigstore(t, p.env)
	file := trustFile(t, map[string]string{"vendor": p.public}, fmt.Sprintf("applications: [{names: [%q], require: vendor}]", p.dst+"/dev/*"))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ref, _ := p.release(t, "v1", 1)
	for name, signer := range map[string]app.Signer{"keyless": s.signer(t, "promoter@example.com"), "timestamp": s.opened.Timestamped(p.signer)} {
		change := func(o *app.PromoteOptions) {
			o.Key, o.Trust, o.Signer, o.Target = "", file, signer, p.dst+"/prod/"+name+":live"
		}
		first, err := p.promote(t.Context(), ref, change)
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.promote(t.Context(), ref, change)
		if err != nil {
			t.Fatal(err)
		}
		if first.Existing || !again.Existing || again.Record != first.Record {
			t.Errorf("%s: %+v, then %+v", name, first, again)
		}
		view, err := app.View(t.Context(), app.ViewOptions{Environment: p.env, Ref: p.dst + "/prod/" + name + ":live"})
		if err != nil {
			t.Fatal(err)
		}
		if len(view.Promotions) != 1 || view.Promotions[0].Policy != digest.FromBytes(data) {
			t.Errorf("%s: %+v", name, view.Promotions)
		}
	}
	// Another identity adds its own record, and the signer of the application cannot.
	other, err := p.promote(t.Context(), ref, func(o *app.PromoteOptions) {
		o.Signer, o.Target = s.signer(t, "other@example.com"), p.dst+"/prod/keyless:live"
	})
	if err != nil || other.Existing {
		t.Errorf("another: %+v, %v", other, err)
	}
	vendor := s.signer(t, "vendor@example.com")
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: p.env, Ref: ref, Signer: vendor}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.promote(t.Context(), ref, func(o *app.PromoteOptions) { o.Signer = vendor }); err == nil || !strings.Contains(err.Error(), "promote with another key or identity") {
		t.Errorf("by its vendor: %v", err)
	}
}
