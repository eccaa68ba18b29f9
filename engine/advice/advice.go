// SPDX-License-Identifier: Apache-2.0

// Package advice adds to an error what to do next, but not how: a program sets a field and a
// person gives a flag, and only the code that shows the error knows which. The tape command
// replaces the general words by its flags.
package advice

import (
	"fmt"
	"strings"
)

// Action is a suggested remedy: a sentence without a full stop, whose placeholders are filled
// in as by [fmt.Sprintf].
type Action string

// Remedies for errors of registries and the store.
const (
	ChooseStore      Action = "choose another folder for the store"
	LogIn            Action = "log in to %s"
	LogInAsAnother   Action = "check what your account may do there, or log in to %s with another"
	AllowPlainHTTP   Action = "if that is what you want, allow plain http for %s"
	RefusePlainHTTP  Action = "if the registry speaks TLS, do not name %s as one of plain http"
	TrustAuthority   Action = "if it is yours, have it trusted"
	TrustCertificate Action = "if the certificate is yours, have it trusted"
	AskLess          Action = "try again later, or ask for less at once"
	RaiseLimit       Action = "wait, log in for a higher limit, or ask for less at once"
	WaitLonger       Action = "try again later, and wait longer"
	CheckAll         Action = "what it names is gone: if the registry deletes what has no tag, have it wait, and check all when you try again"
	NameHosts        Action = "name one that has a HOST/hosts.toml for each registry"
)

// Remedies for errors of sources and pipelines.
const (
	GiveArgument     Action = "give %s a value"
	NameInterpreter  Action = "say which interpreter reads it"
	InstallEach      Action = "install each"
	NameSource       Action = "name one of them, or write a pipeline"
	NamePipeline     Action = "name another, or write one"
	TakePipeline     Action = "if it is the pipeline that you mean, name %s as such"
	WritePipeline    Action = "write one first"
	WriteFleet       Action = "write one"
	MakePlan         Action = "make another"
	SkipInvalid      Action = "mend it, or leave such files out"
	SeeSkipped       Action = "see which files were skipped, and why"
	Replace          Action = "have it replaced"
	ReplaceContent   Action = "name another folder, or have what is in it replaced"
	WriteLock        Action = "write it first"
	RenewLock        Action = "write the lock again"
	Update           Action = "update the %s of the lock to take this"
	TakeFrom         Action = "%s has it: take %s from there"
	ChoosePlatform   Action = "choose one, or pull the rest"
	NameRepository   Action = "name one, such as registry.example.com/team/app"
	ClearCache       Action = "clear what is kept, on this machine too, once you know which it is; rendering twice tells"
	LeaveRelated     Action = "leave out what is published beside the images"
	PackageRelated   Action = "package without what is published beside the images, or fewer sources at a time"
	SaveInstead      Action = "an archive takes the application, and one platform of each image leaves no index inside of its own"
	SaveIndexInstead Action = "one platform of each image leaves out its index; the application is an index all the same, which an archive takes"
)

// Remedies for errors of applications.
const (
	Relocate         Action = "relocate it to make one of format %s"
	RelocateTo       Action = "name a prefix of the images' names, a repository, or both"
	RelocateRewrite  Action = "relocate it to make an application that does"
	CopyElsewhere    Action = "an archive takes everything, and relocating copies the images alone"
	PackageFirst     Action = "package %s for %s first"
	SavePlatform     Action = "choose one to save"
	SaveFirst        Action = "save it, and verify the archive"
	SaveToWriter     Action = "name a file, or write to a stream"
	Resume           Action = "resume to go on with it"
	BundleOut        Action = "name a file for the bundle, or sign before saving"
	PromoteAnyway    Action = "if it is meant to go back, promote it all the same"
	AttestElsewhere  Action = "name a repository for the summary"
	HideSignature    Action = "name a repository for the summaries, or hide it all the same"
	GenerateKey      Action = "generate a pair"
	GiveToken        Action = "give a file of one, set SIGSTORE_ID_TOKEN, or run where GitHub Actions or Kubernetes gives one"
	AllowFallbacks   Action = "allow fallbacks to push it with older media types"
	AutoUpdateBundle Action = "name it by its digest, or take what is there"
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

// Advised is an error whose text includes the advice. A is "" if it has none.
type Advised interface {
	error
	Advice() (a Action, about []any)
}

// Render returns the text of an error in which the advice, also that in wrapped errors, is
// rephrased: say returns the format for an action, "" to leave it unchanged.
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

// walk visits an error and all that it wraps.
func walk(err error, visit func(Advised)) {
	if e, ok := err.(Advised); ok { //nolint:errorlint // each error of the tree is visited
		visit(e)
	}
	switch e := err.(type) { //nolint:errorlint // as above
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
