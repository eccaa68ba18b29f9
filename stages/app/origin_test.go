// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/taped-dev/tape/engine/content/registry/registrytest"
	"github.com/taped-dev/tape/stages/app"
)

// relocated relocates an application and signs what is made.
func (a *signedApp) relocated(t *testing.T, o app.RelocateOptions, signer app.Signer) *app.RelocatedRoot {
	t.Helper()
	o.Environment = a.env
	result, err := app.Relocate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Sign(t.Context(), app.SignOptions{Environment: a.env, Ref: result.Root.Ref, Signer: signer}); err != nil {
		t.Fatal(err)
	}
	return result.Root
}

// The signature of who published an application holds after it was relocated twice, copied,
// saved and loaded.
func TestOrigin(t *testing.T) {
	for kind, handler := range twoRegistries() {
		t.Run(kind, func(t *testing.T) {
			a := newSignedApp(t, handler())
			dealer, dealerKey := newKey(t)
			site, siteKey := newKey(t)
			to := registrytest.Serve(t, handler())
			first := a.relocated(t, app.RelocateOptions{Source: a.ref, Repository: to + "/dealer/shop"}, dealerKey)
			second := a.relocated(t, app.RelocateOptions{Source: first.Ref, Prefix: to + "/site", Repository: to + "/site/shop"}, siteKey)

			view, err := app.View(t.Context(), app.ViewOptions{Environment: a.env, Ref: second.Ref})
			if err != nil {
				t.Fatal(err)
			}
			if len(view.Origins) != 2 || view.Origins[0].Root != first.Digest || len(view.Origins[0].Signatures) != 2 || view.Origins[1].Root != a.root ||
				view.Origins[1].Repository != a.host+"/team/shop" || len(view.Origins[1].Signatures) != 2 || len(view.Warnings) != 0 {
				t.Errorf("%+v, warnings %q", view.Origins, view.Warnings)
			}
			refs := []string{second.Ref}
			far := registrytest.Serve(t, handler()) + "/far/shop:v1"
			if _, err := app.Copy(t.Context(), app.CopyOptions{Environment: a.env, Pairs: []app.CopyPair{{Source: second.Ref, Target: far}}}); err != nil {
				t.Fatal(err)
			}
			archive := filepath.Join(t.TempDir(), "shop.tar")
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: far, File: archive}); err != nil {
				t.Fatal(err)
			}
			loaded := registrytest.Serve(t, handler()) + "/loaded/shop"
			if _, err := app.Load(t.Context(), app.LoadOptions{Environment: a.env, File: archive, Repository: loaded}); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, far, "archive:"+archive, loaded+"@"+second.Digest.String())
			node := filepath.Join(t.TempDir(), "node.tar")
			if _, err := app.Save(t.Context(), app.SaveOptions{Environment: a.env, Ref: far, File: node, Platform: "linux/amd64"}); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, "archive:"+node)
			for _, ref := range refs {
				for _, origin := range []string{a.public, dealer, site} {
					if r := a.verify(t, app.VerifyOptions{Ref: ref, Key: site, OriginKey: origin}); !r.OK {
						t.Errorf("%s: %v", ref, failing(r))
					}
				}
				other, _ := newKey(t)
				if r := a.verify(t, app.VerifyOptions{Ref: ref, Key: site, OriginKey: other}); r.OK || !strings.Contains(failing(r)["origin signature"], "not signed by this key") {
					t.Errorf("%s: %v", ref, failing(r))
				}
			}
		})
	}
}
