// SPDX-License-Identifier: Apache-2.0

// Package verify checks the whole chain of an application with only the artifact and who
// must have signed it: the signature names the root by digest, the root names everything else, and its
// statements explain every byte of the manifests.
//
// All links are checked even if one of them fails, so that one run reports everything that
// is wrong. A registry that is unreachable or denies access is an error, not a failed link,
// because nothing is known about the application then.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/internal/atonce"
	"github.com/taped-dev/tape/stages/app/internal/trust"
	"github.com/taped-dev/tape/stages/artifact"
)

// Options configure what is checked.
type Options struct {
	// By is who must have signed the root; nil leaves that to Policy.
	By *trust.Authority
	// Origin is who must have signed the root or one that it was relocated from; nil leaves
	// that to Policy.
	Origin *trust.Authority
	// Policy is what root and images must hold against; nil is none.
	Policy *trust.Policy
	// Name is the repository that the root is in, for rules of Policy; "" is the one that
	// it says it was made for.
	Name string
	// Bundle is the signature of the root. If nil, the signatures attached to the root
	// are used.
	Bundle []byte
	// Deep reads every blob in a repository instead of checking that it exists. Blobs in
	// a layout are always read.
	Deep bool
	// Source is the URI of the repository that every source must come from; "" for any.
	Source string
	// Commit is the commit that every source must be at, unmodified; "" for any.
	Commit string
	// Tag is the tag by which the root was found in a repository, "" if none. The tag of
	// the content must point to this root's content, because some deployers use only that.
	Tag string
	// AllowOutside accepts pods that run images that are not in the root.
	AllowOutside bool
	// Images are those of whom one must have signed each image where it was published. If
	// empty, signatures of images are not checked.
	Images []*trust.Authority
	// Summary takes a summary of an earlier verification instead of walking the chain, in
	// which Policy must be what it was verified with; nil walks it.
	Summary *SummaryOptions
}

// Result is what `tape verify -o json` prints.
type Result struct {
	OK    bool          `json:"ok"`
	Root  digest.Digest `json:"root"`
	Links []Link        `json:"links"`
	// Policy describes the policy that was used; nil is none.
	Policy *artifact.Resource `json:"policy,omitempty"`
	// Summary is what was taken instead of walking the chain; nil if that was walked.
	Summary *Summary `json:"summary,omitempty"`
	// Warnings are findings that do not make verification fail.
	Warnings []string `json:"warnings,omitempty"`
}

// Link is the result of checking one link of the chain.
type Link struct {
	Name    string        `json:"name"`
	Subject digest.Digest `json:"subject"`
	OK      bool          `json:"ok"`
	// Outside reports that the link is an image that a pod runs but the root does not
	// list.
	Outside bool `json:"outside,omitempty"`
	// Reason is why the link fails, or a remark on one that does not.
	Reason string `json:"reason,omitempty"`
	// Rule is the rule of a policy that the link is about.
	Rule string `json:"rule,omitempty"`
	// Proof is what is known of the signature, if the link is one that was verified.
	trust.Proof
}

// chain is the state of one verification.
type chain struct {
	place  layout.Repository
	app    *artifact.Application
	o      Options
	images map[digest.Digest]bool // images listed in the root
	slots  chan struct{}
	// summarized is the summary that was accepted.
	summarized *Summary

	mu       sync.Mutex
	warnings []string
	fatal    error // why verification is not possible
}

// part checks some of the links.
type part func(ctx context.Context) []Link

// Application verifies the application with the given root. The error is for what
// prevents verification; a failed check is in the result.
func Application(ctx context.Context, place layout.Repository, root ocispec.Descriptor, o Options) (*Result, error) {
	c := &chain{place: place, o: o, images: map[digest.Digest]bool{}, slots: make(chan struct{}, atonce.Requests)}
	r := &Result{Root: root.Digest}
	if o.Policy != nil {
		policy := o.Policy.Resource()
		r.Policy = &policy
	}
	app, err := artifact.OpenRoot(ctx, place, root)
	if err != nil {
		if c.stop(err); c.fatal != nil {
			return nil, c.fatal
		}
		r.Links = []Link{broken("root", root.Digest, err)}
		return r, nil
	}
	c.app = app
	for _, child := range app.Children(artifact.RoleImage) {
		c.images[child.Digest] = true
	}
	parts := []part{c.signatures, c.trusted, c.contentTag, c.content, c.children, c.imageSignatures, c.origins}
	if o.Summary != nil {
		parts = []part{c.signatures, c.contentTag, c.summary}
		// Whose the application is does not rest on who summarizes: the root has the proof.
		if o.Origin != nil || o.Policy != nil && o.Policy.Origin != nil {
			parts = append(parts, c.origins)
		}
	}
	links := make([][]Link, len(parts))
	var wait sync.WaitGroup
	for i, part := range parts {
		wait.Go(func() { links[i] = part(ctx) })
	}
	wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if c.fatal != nil {
		return nil, c.fatal
	}
	slices.Sort(c.warnings)
	r.OK, r.Links, r.Summary, r.Warnings = true, slices.Concat(links...), c.summarized, c.warnings
	for _, link := range r.Links {
		r.OK = r.OK && link.OK
	}
	return r, nil
}

// contentTag checks that the content's tag points to the content. A copy may not have it.
func (c *chain) contentTag(ctx context.Context) []Link {
	if c.o.Tag == "" || c.app.Format == artifact.FormatOriginal {
		return nil
	}
	tag := artifact.ContentTag(c.o.Tag)
	found, err := c.place.Resolve(ctx, tag)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err == nil && found.Digest != c.app.Content.Digest {
		err = fmt.Errorf("the tag points to %s: a deployer that uses only the tag %s, such as Argo CD, does not deploy this application", found.Digest, tag)
	}
	return []Link{c.link("tag "+tag, c.app.Content.Digest, err)}
}

// broken returns a failed link.
func broken(name string, subject digest.Digest, err error) Link {
	return Link{Name: name, Subject: subject, Reason: err.Error()}
}

// link returns a link that is OK if err is nil. It passes err to stop.
func (c *chain) link(name string, subject digest.Digest, err error) Link {
	if err == nil {
		return Link{Name: name, Subject: subject, OK: true}
	}
	c.stop(err)
	return broken(name, subject, err)
}

// stop makes verification fail as a whole if err says nothing about the application.
func (c *chain) stop(err error) {
	if !errdefs.IsUnavailable(err) && !errdefs.IsUnauthorized(err) && !errdefs.IsPermissionDenied(err) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == nil {
		c.fatal = err
	}
}

func (c *chain) warn(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// slot runs do as soon as one of the slots is free. do must not wait for another slot.
func (c *chain) slot(ctx context.Context, do func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return do()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read reads a blob of at most limit bytes from the place.
func (c *chain) read(ctx context.Context, desc ocispec.Descriptor, limit int64) (data []byte, err error) {
	err = c.slot(ctx, func() error {
		data, err = engine.Read(ctx, c.place, desc, limit)
		return err
	})
	return data, err
}

// eachImage checks every image, with what is related to it, concurrently.
func (c *chain) eachImage(check func(image ocispec.Descriptor, related []ocispec.Descriptor) []Link) []Link {
	related := map[digest.Digest][]ocispec.Descriptor{}
	for _, child := range c.app.Children(artifact.RoleRelated) {
		to := digest.Digest(child.Annotations[artifact.AnnotationRelatedTo])
		related[to] = append(related[to], child)
	}
	list := c.app.Children(artifact.RoleImage)
	links := make([][]Link, len(list))
	var wait sync.WaitGroup
	for i, image := range list {
		wait.Go(func() { links[i] = check(image, related[image.Digest]) })
	}
	wait.Wait()
	return slices.Concat(links...)
}
