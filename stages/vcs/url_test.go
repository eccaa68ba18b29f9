// SPDX-License-Identifier: Apache-2.0

package vcs

import "testing"

func TestCleanURL(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"https://github.com/acme/shop.git", "https://github.com/acme/shop.git"},
		{"https://user:secret@github.com/acme/shop", "https://github.com/acme/shop"},
		{"https://ghp_secret@github.com/acme/shop", "https://github.com/acme/shop"},
		{"https://user:s@cr:et@example.com:8443/acme/shop", "https://example.com:8443/acme/shop"},
		{"https://user:se/cret@example.com/acme/shop", ""},
		{"https://example.com/acme/shop?private_token=secret", "https://example.com/acme/shop"},
		{"https://example.com/acme/shop#secret", "https://example.com/acme/shop"},
		{"https://user:secret@/acme/shop", ""},
		{"https://example.com/a%20b", "https://example.com/a%20b"},
		{"ssh://git@github.com/acme/shop", "ssh://git@github.com/acme/shop"},
		{"ssh://git:secret@github.com:22/acme/shop", "ssh://git@github.com:22/acme/shop"},
		{"ssh://alice@gerrit.example.com:29418/shop", "ssh://gerrit.example.com:29418/shop"},
		{"git://example.com/shop", "git://example.com/shop"},
		{"git@github.com:acme/shop.git", "git@github.com:acme/shop.git"},
		{"alice:secret@example.com:shop", "example.com:shop"},
		{"alice@example.com:shop?token=secret", "example.com:shop"},
		{"example.com:acme/shop", "example.com:acme/shop"},
		{"git@[::1]:acme/shop", "git@[::1]:acme/shop"},
		{"oci://example.com:5000/charts/shop:1.0", "oci://example.com:5000/charts/shop:1.0"},
		{"file:///srv/git/shop", ""},
		{"/srv/git/shop", ""},
		{"../shop", ""},
		{"../odd:name", ""},
		{`C:\src\shop`, ""},
		{"ext::sh -c 'echo secret'", ""},
		{"helper::https://user:secret@example.com", ""},
		{"", ""},
	} {
		if got := CleanURL(c.raw); got != c.want {
			t.Errorf("CleanURL(%q) = %q, want %q", c.raw, got, c.want)
		}
	}
}

func TestCleanText(t *testing.T) {
	got := CleanText("fatal: unable to access 'https://user:s@cret@example.com/x?token=secret': no, ssh://example.com/y")
	want := "fatal: unable to access 'https://example.com/x': no, ssh://example.com/y"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func FuzzCleanURL(f *testing.F) {
	for _, seed := range []string{"https://u:p@h/x", "git@h:x", "a:b@c:d", "ssh://git@h:1/x?q", "[::1]:x", "//\x99#p://\x99/p"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		clean := CleanURL(raw)
		if again := CleanURL(clean); again != clean {
			t.Errorf("CleanURL(%q) = %q, and of that %q", raw, clean, again)
		}
	})
}
