// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine/content/imageref"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/local"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/stages/artifact"
)

// opened is an open reference. The caller must close it.
type opened struct {
	layout.Repository
	// name is the name of the repository, or "" for a layout or an archive. layout is the layout
	// or archive, or nil.
	name   string
	layout *layout.Layout
	// tag is the tag in the reference, or "" if it has only a digest or, in a layout, neither.
	tag string
	// version is what to resolve: the digest, or else the tag. If empty, there must be exactly
	// one manifest.
	version string
	// warning is about what was opened; "" if there is none.
	warning string
	close   func() error
}

// open opens a reference: REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or
// archive:FILE[:TAG]. An existing layout or archive takes precedence over a repository, even if
// its prefix is missing.
func open(ctx context.Context, client *registry.Client, ref string) (*opened, error) {
	if layout.IsReference(ref) {
		layout, version, err := layout.OpenReference(ctx, ref)
		if errdefs.IsInvalidArgument(err) || errdefs.IsDataLoss(err) {
			saved, savedErr := openSaved(ctx, ref)
			if saved != nil || savedErr != nil {
				return saved, refusal(savedErr)
			}
		}
		if err != nil {
			return nil, refusal(err)
		}
		o := &opened{Repository: layout, layout: layout, version: version, close: layout.Close}
		if !strings.Contains(version, ":") {
			o.tag = version
		}
		return o, nil
	}
	if _, err := os.Stat(ref); err == nil {
		at, ok := applicationReference(ref)
		if !ok && !isArchiveName(ref) {
			return nil, usagef("%s contains no application: give the archive or the OCI layout of one, or REGISTRY/REPOSITORY:TAG", ref)
		}
		return open(ctx, client, at)
	}
	r, err := parseReference(ref)
	switch {
	case err != nil && !isPath(ref) && !isArchiveName(ref):
		return nil, usagef("there is no file or folder %s, and %w", ref, err)
	case err != nil:
		return nil, err
	case r.Version() == "":
		return nil, usagef("%s has no tag and no digest; add one, such as %s:v1.0.0", ref, ref)
	}
	repo, err := client.Repository(r.Name)
	if err != nil {
		return nil, err
	}
	return &opened{Repository: repo, name: r.Name, tag: r.Tag, version: r.Version(), close: func() error { return nil }}, nil
}

// openSaved unpacks and opens the image in an archive of Docker's own format. It returns nil if
// the reference is not to such an archive.
func openSaved(ctx context.Context, ref string) (*opened, error) {
	file, version, err := layout.SplitReference(ref)
	if err != nil || !strings.HasPrefix(ref, "archive:") {
		return nil, err
	}
	places := local.New(local.Options{})
	source, tag, ok, err := places.Saved(ctx, file, version)
	if err != nil || !ok {
		return nil, errors.Join(err, places.Close())
	}
	return &opened{Repository: source, tag: tag, warning: source.Warning(), close: places.Close}, nil
}

// SplitTag splits REPOSITORY[:TAG]. It returns any other text as the repository, which the caller
// has to validate.
func SplitTag(text string) (repository, tag string, err error) {
	r := imageref.Split(text)
	if _, err := imageref.Parse(text); err != nil || r.Tag == "" || r.Digest != "" || !strings.Contains(r.Name, "/") { // registry.example.com:5000 is a host
		return text, "", nil
	}
	return r.Name, r.Tag, asUsage(artifact.CheckTag(r.Tag))
}

// isPath reports whether a text looks like a path.
func isPath(text string) bool {
	for _, prefix := range []string{"./", "../", "/", "~/"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return text == "." || text == ".."
}

// isArchiveName reports whether a text looks like the name of an archive.
func isArchiveName(text string) bool {
	for _, suffix := range []string{".tar", ".tgz", ".tar.gz", ".tar.zst"} {
		if strings.HasSuffix(text, suffix) {
			return true
		}
	}
	return false
}

// parseReference parses a reference that must include a registry.
func parseReference(text string) (imageref.Reference, error) {
	none := imageref.Reference{}
	if layout.IsReference(text) {
		return none, usagef("%q is not in a registry: name a repository of one, such as registry.example.com/team/app", text)
	}
	if strings.Contains(text, "://") {
		return none, usagef("%q is not a reference: leave out the scheme", text)
	}
	if isPath(text) {
		return none, usagef("there is no %s; an application is REGISTRY/REPOSITORY:TAG, archive:FILE or oci:DIR", text)
	}
	if _, err := imageref.Parse(text); err != nil {
		return none, usagef("%q is not a reference: %w", text, err)
	}
	r := imageref.Split(text)
	host, _, path := strings.Cut(r.Name, "/")
	noRegistry := !path || !strings.ContainsAny(host, ".:") && host != "localhost"
	if noRegistry && isArchiveName(text) {
		return none, usagef("there is no file %s; an application is REGISTRY/REPOSITORY:TAG, archive:FILE or oci:DIR", text)
	}
	if noRegistry && !path && (r.Digest == "" && strings.Contains(host, ".") || isPort(r.Tag)) {
		return none, usagef("%q is a registry: name a repository there, such as %s/team/app", text, text)
	}
	if noRegistry {
		return none, usagef("%q does not name its registry: write registry.example.com/%s", text, text)
	}
	return r, nil
}

// isPort reports whether the text after a colon can be a port, as in HOST:PORT.
func isPort(s string) bool {
	port, err := strconv.ParseUint(s, 10, 16)
	return err == nil && port >= 80
}

// resolve finds the manifest that the reference names. An archive of an application must be what
// Save writes.
func (o *opened) resolve(ctx context.Context) (ocispec.Descriptor, error) {
	root, err := o.find(ctx)
	if err == nil {
		err = o.checkArchive(ctx, root, false)
	}
	return root, err
}

// application opens the application behind a reference.
func application(ctx context.Context, client *registry.Client, ref string) (*artifact.Application, *opened, error) {
	o, err := open(ctx, client, ref)
	if err != nil {
		return nil, nil, err
	}
	var app *artifact.Application
	root, err := o.resolve(ctx)
	if err == nil {
		app, err = artifact.OpenRoot(ctx, o, root)
	}
	if err != nil {
		_ = o.close()
		return nil, nil, fmt.Errorf("read %s: %w", ref, err)
	}
	return app, o, nil
}
