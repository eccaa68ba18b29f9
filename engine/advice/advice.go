// SPDX-License-Identifier: Apache-2.0

// Package advice adds to an error what to do next, but not how: a program sets a field and a
// person gives a flag, and only the code that shows the error knows which of them reads it. The
// tape command replaces the general words with its flags.
package advice

import (
	"fmt"
	"strings"
)

// Action is a suggested remedy: a sentence without a full stop, with placeholders for
// [fmt.Sprintf].
type Action string

// Remedies for errors of registries and the store.
const (
	ChooseStore      Action = "choose another folder for the store"
	LogIn            Action = "log in to %s"
	LogInAsAnother   Action = "check what your account may do there, or log in to %s with another"
	AllowPlainHTTP   Action = "if that is what you want, allow plain http for %s"
	RefusePlainHTTP  Action = "if the registry uses TLS, do not allow plain http for %s"
	TrustAuthority   Action = "if it is yours, trust it"
	TrustCertificate Action = "if the certificate is yours, trust it"
	AskLess          Action = "try again later, or with less concurrency"
	RaiseLimit       Action = "wait, log in for a higher limit, or lower the concurrency"
	WaitLonger       Action = "try again later, and wait longer"
	CheckAll         Action = "content that it refers to is gone: if the registry deletes untagged content, delay that, and check everything when you retry"
	NameHosts        Action = "name one that has a HOST/hosts.toml for each registry"
)

// Remedies for errors of sources and pipelines.
const (
	GiveArgument     Action = "give %s a value"
	NameInterpreter  Action = "say which interpreter reads it"
	InstallEach      Action = "install each"
	NameSource       Action = "name one of them, or write a pipeline"
	NamePipeline     Action = "name another, or write one"
	TakePipeline     Action = "if %s is meant as the pipeline, name it as such"
	WritePipeline    Action = "write one first"
	WriteFleet       Action = "write one"
	MakePlan         Action = "make another"
	SkipInvalid      Action = "fix it, or leave out invalid files"
	SeeSkipped       Action = "see which files were skipped, and why"
	Replace          Action = "replace it"
	ReplaceContent   Action = "name another folder, or replace its content"
	WriteLock        Action = "write it first"
	RenewLock        Action = "write the lock again"
	Update           Action = "update the %s of the lock to accept this"
	TakeFrom         Action = "%s has it: take %s from there"
	ChoosePlatform   Action = "choose one, or pull the rest"
	NameRepository   Action = "name one, such as registry.example.com/team/app"
	ClearCache       Action = "render twice to find out which, and then clear the cache, on this machine too"
	LeaveRelated     Action = "leave out signatures, attestations and SBOMs"
	PackageRelated   Action = "package without signatures, attestations and SBOMs, or fewer sources at a time"
	SaveInstead      Action = "save the application to an archive, or package one platform of each image, which leaves no nested index"
	SaveIndexInstead Action = "packaging one platform of each image leaves out its index, but the application is an index too: save it to an archive"
)

// Remedies for errors of applications.
const (
	Relocate         Action = "relocate it to make one of format %s"
	RelocateTo       Action = "name a prefix of the images' names, a repository, or both"
	RelocateRewrite  Action = "relocate it to make an application that does"
	CopyElsewhere    Action = "copy it to an archive, or relocate it to copy only the images"
	PackageFirst     Action = "package %s for %s first"
	SavePlatform     Action = "choose one to save"
	SaveFirst        Action = "save it, and verify the archive"
	SaveToWriter     Action = "name a file, or write to a stream"
	Resume           Action = "resume to continue it"
	BundleOut        Action = "name a file for the bundle, or sign before saving"
	PromoteAnyway    Action = "if it is meant to go back, promote it anyway"
	AttestElsewhere  Action = "name a repository for the summary"
	HideSignature    Action = "name a repository for the summaries, or hide it anyway"
	GenerateKey      Action = "generate a pair"
	GiveToken        Action = "give a file of one, set SIGSTORE_ID_TOKEN, or run where GitHub Actions or Kubernetes gives one"
	AllowFallbacks   Action = "allow fallbacks to push it with older media types"
	AutoUpdateBundle Action = "name it by its digest, or accept the current one"
)

// Error is an error with advice.
type Error struct {
	Err    error
	Action Action
	About  []any
}

// Add adds advice to an error; nil stays nil.
func Add(err error, a Action, about ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Action: a, About: about}
}

func (e *Error) Error() string {
	return e.Err.Error() + "; " + fmt.Sprintf(string(e.Action), e.About...)
}
func (e *Error) Unwrap() error { return e.Err }

// Advice implements [Advised].
func (e *Error) Advice() (a Action, about []any) { return e.Action, e.About }

// Advised is an error whose text includes advice. a is "" if it has none.
type Advised interface {
	error
	Advice() (a Action, about []any)
}

// Render returns the text of an error with its advice, and that of wrapped errors, rephrased: say
// returns the format for an action, or "" to leave it unchanged.
func Render(err error, say func(Action) string) string {
	text := err.Error()
	walk(err, func(e Advised) {
		a, about := e.Advice()
		if words := say(a); a != "" && words != "" {
			text = strings.ReplaceAll(text, "; "+fmt.Sprintf(string(a), about...), "; "+fmt.Sprintf(words, about...))
		}
	})
	return text
}

// walk visits an error and all errors that it wraps.
func walk(err error, visit func(Advised)) {
	if e, ok := err.(Advised); ok { //nolint:errorlint // each error of the tree is visited
		visit(e)
	}
	switch e := err.(type) { //nolint:errorlint // each error of the tree is visited
	case interface{ Unwrap() error }:
		if below := e.Unwrap(); below != nil {
			walk(below, visit)
		}
	case interface{ Unwrap() []error }:
		for _, below := range e.Unwrap() {
			if below != nil {
				walk(below, visit)
			}
		}
	}
}
