// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"strings"

	"github.com/taped-dev/tape/engine/advice"
	"github.com/taped-dev/tape/plugins/host"
)

// hints are the remedies of the library in terms of the command line.
var hints = map[advice.Action]string{
	advice.ChooseStore:      "name another folder with --store",
	advice.LogIn:            "log in with: tape login %s",
	advice.LogInAsAnother:   "check what your account may do there, or log in with another: tape login %s",
	advice.AllowPlainHTTP:   "if that is what you want: --plain-http %s",
	advice.RefusePlainHTTP:  "if the registry uses TLS, leave out --plain-http %s",
	advice.TrustAuthority:   "if it is yours: --ca-file FILE",
	advice.TrustCertificate: "if the certificate is yours: --ca-file FILE",
	advice.AskLess:          "try again later, or lower --concurrency",
	advice.RaiseLimit:       "wait, log in for a higher limit, or lower --concurrency",
	advice.WaitLonger:       "try again later; --timeout bounds the wait",
	advice.CheckAll:         "content that it refers to is gone: if the registry deletes untagged content, delay that, and retry with --check",
	advice.NameHosts:        "--hosts-dir (or $TAPE_HOSTS_DIR) names one that has a HOST/hosts.toml for each registry",

	advice.GiveArgument:     "set it with --arg %s=…",
	advice.NameInterpreter:  "say which with --interpreter, or with 'interpreter' in tape.yaml",
	advice.InstallEach:      "install each with 'tape interpreter install FILE'",
	advice.NameSource:       "name one of them, or write a pipeline with 'tape pipeline init'",
	advice.NamePipeline:     "name the pipeline with -p, or write one with 'tape pipeline init'",
	advice.TakePipeline:     "if it is meant as the pipeline: -p %s",
	advice.WritePipeline:    "write one with 'tape pipeline init'",
	advice.WriteFleet:       "write one with 'tape fleet init'",
	advice.MakePlan:         "make one with 'tape fleet plan'",
	advice.SkipInvalid:      "fix it, or leave out invalid files with --skip-invalid",
	advice.SeeSkipped:       "'tape images' says which files were skipped, and why",
	advice.Replace:          "--force replaces it",
	advice.ReplaceContent:   "name another folder, or replace its content with --force",
	advice.WriteLock:        "write it with 'tape package --update'",
	advice.RenewLock:        "write the lock again with --update",
	advice.Update:           "--update=%s accepts it",
	advice.TakeFrom:         "%[1]s has it: take it from there with --from %[2]s=%[1]s",
	advice.ChoosePlatform:   "choose one with --platform, or pull the rest",
	advice.NameRepository:   "give one with --output-image (-O), such as registry.example.com/team/app",
	advice.ClearCache:       "--deterministic checks whether the source renders the same twice; if it does, clear the caches with 'tape cache prune --all' and 'tape cache prune REPO --all'",
	advice.LeaveRelated:     "--related none leaves it out",
	advice.PackageRelated:   "package with --related none, or fewer sources at a time",
	advice.SaveInstead:      "save it to an archive with --save FILE, or package one platform of each image with --platform OS/ARCH, which leaves no nested index",
	advice.SaveIndexInstead: "--platform OS/ARCH takes images without their index, but the application is an index too: save it to an archive with --save FILE",

	advice.Relocate:         "make one of format %s of it with 'tape relocate -O'",
	advice.RelocateTo:       "give a prefix of the images' names (--prefix), a repository (-O), or both",
	advice.RelocateRewrite:  "'tape relocate' makes an application that does",
	advice.CopyElsewhere:    "copy it to archive:FILE, or copy only the images with 'tape relocate --prefix PREFIX --manifests-out DIR'",
	advice.PackageFirst:     "make one with 'tape package %s -O %s'",
	advice.SavePlatform:     "save it with --platform",
	advice.SaveFirst:        "save it with 'tape save', and verify archive:FILE",
	advice.SaveToWriter:     "name a file; 'tape save REF -' writes to stdout",
	advice.Resume:           "continue it with --resume",
	advice.BundleOut:        "name a file with --bundle-out, or sign before saving",
	advice.AttestElsewhere:  "name a repository for the summary with --attest-to REPO",
	advice.HideSignature:    "put the summaries elsewhere with --attest-to REPO, or hide it with --force",
	advice.PromoteAnyway:    "if it is meant to go back: --force",
	advice.GenerateKey:      "make a pair with 'tape sign --generate-key PREFIX'",
	advice.GiveToken:        "give one with --identity-token FILE, set SIGSTORE_ID_TOKEN, or run where GitHub Actions or Kubernetes gives one",
	advice.AllowFallbacks:   "leave out --allow-fallbacks=false to push it with older media types",
	advice.AutoUpdateBundle: "name it by its digest, or accept the current one with --auto-update-bundle",
}

// hinted returns the text of an error with advice that names flags.
func hinted(err error) string {
	text := advice.Render(err, func(a advice.Action) string { return hints[a] })
	if _, missing := errors.AsType[*host.NotFoundError](err); missing {
		text = strings.Replace(text, "; install it,", "; install it with 'tape interpreter install FILE',", 1)
	}
	return text
}
